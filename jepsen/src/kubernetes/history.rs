//! What the writers did, and what readers and watchers saw.
//!
//! Every write is conditional, as Kubernetes' are: it changes an object only if its last change is the one that the
//! writer knows, its *guard*. Each object has one writer, which tries one thing at a time. So the changes of an object
//! are a chain, and it is known exactly what may and what must be seen, although a crash leaves open what became of
//! the attempts under way.

use super::objects::ObjectId;

/// A revision of the store. 0: never.
pub(super) type Revision = i64;

/// What an attempt would do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// Create or update: the value names the attempt.
    Put,
    /// Delete.
    Delete,
}

/// What the writer was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It is done, as this revision.
    Acknowledged(Revision),
    /// Nothing: the connection broke.
    Unknown,
    /// The guard did not hold, nothing was done.
    Refused,
}

/// One attempt of a writer at changing an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Attempt {
    /// The revision of the object's last change if it exists, else 0.
    pub(super) guard: Revision,
    pub(super) change: Change,
    pub(super) outcome: Outcome,
}

/// All attempts, by object, each object's in the order in which they were made.
#[derive(Debug)]
pub(super) struct History {
    attempts: Vec<Vec<Attempt>>,
}

impl History {
    /// Nothing has been tried on `objects` objects.
    pub(super) fn new(objects: usize) -> Self {
        Self { attempts: vec![Vec::new(); objects] }
    }

    /// Adds what one writer did to one object.
    pub(super) fn add(&mut self, ObjectId(place): ObjectId, attempts: Vec<Attempt>) {
        assert!(self.attempts[place].is_empty(), "an object has one writer");
        self.attempts[place] = attempts;
    }

    /// The attempts at an object.
    pub(super) fn of(&self, ObjectId(place): ObjectId) -> &[Attempt] {
        &self.attempts[place]
    }

    /// All attempts.
    pub(super) fn all(&self) -> impl Iterator<Item = &Attempt> {
        self.attempts.iter().flatten()
    }
}

/// What somebody saw of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sight {
    pub(super) object: ObjectId,
    /// When it was changed to what was seen.
    pub(super) revision: Revision,
    pub(super) what: What,
}

/// What it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum What {
    /// The value of this attempt.
    Value(usize),
    /// A value that no attempt writes.
    Garbage,
    /// A deletion.
    Deletion,
}

/// An event of a watch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Event {
    pub(super) sight: Sight,
    /// The revision of the value before, as the event told it; 0 if it told none.
    pub(super) previous: Revision,
}

/// A list of objects at one revision.
#[derive(Debug)]
pub(super) struct Listing {
    pub(super) revision: Revision,
    pub(super) sights: Vec<Sight>,
}
