//! Who is behind a connection.

use core::cell::RefCell;
use core::fmt;
use core::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;

use cairn_engine::ConnectionId;
use cairn_engine::auth::Credential;
use cairn_io::driver::Handle;

use super::{Budgets, Client, Name};

/// Whoever made a connection: an address, and users that show themselves on it. Shared by the connection's tasks;
/// borrowed inside one function.
#[derive(Clone)]
pub(crate) struct Visitor(Rc<Inner>);

struct Inner {
    budgets: Arc<Budgets>,
    at: Client,
    connection: ConnectionId,
    /// Who showed itself last, by what, at which revision of users: mostly it is the same one again.
    last: RefCell<Option<(Credential, u64, Client)>>,
}

impl Visitor {
    /// Somebody at an address, or at a unix socket.
    pub(crate) fn new(
        budgets: Arc<Budgets>,
        address: Option<IpAddr>,
        connection: ConnectionId,
    ) -> Self {
        let at = budgets.client(Name::at(address));
        Self(Rc::new(Inner { budgets, at, connection, last: RefCell::default() }))
    }

    /// The connection's name, to the engine.
    pub(crate) fn connection(&self) -> ConnectionId {
        self.0.connection
    }

    /// Whoever is at the address.
    pub(crate) fn at(&self) -> &Client {
        &self.0.at
    }

    /// Who is to be counted that shows this at `now`: the user, or, if nobody is known by it, whoever is at the address.
    pub(crate) fn client(&self, handle: &Handle, credential: &Credential, now: u64) -> Client {
        let (Inner { budgets, last, .. }, at) = (&*self.0, self.at());
        if *credential == Credential::None || !handle.auth().is_enabled() {
            return at.clone();
        }
        let revision = handle.auth().revision();
        if let Some((shown, then, client)) = &*last.borrow()
            && (shown, *then) == (credential, revision)
        {
            return client.clone();
        }
        let Some(user) = handle.user(credential, now) else { return at.clone() };
        let client = budgets.client(Name::User(user));
        *last.borrow_mut() = Some((credential.clone(), revision, client.clone()));
        client
    }
}

impl fmt::Debug for Visitor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Visitor").field(&self.0.at).finish()
    }
}
