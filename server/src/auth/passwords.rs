//! Hashing passwords: a tenth of a second of a CPU each, so not on an executor.
//!
//! A few threads do it, started when the first password comes. Of those who wait for them there is a bound: more are
//! turned away, so that whoever tries many passwords slows down other logins and nothing else.

use core::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, OnceLock};
use std::thread;

use bcrypt::{BcryptError, Version};
use bytes::Bytes;
use cairn_engine::api::Error;
use tokio::sync::oneshot;
use zeroize::Zeroizing;

/// Passwords that wait for a thread.
const WAITING_MAX: usize = 128;
/// Threads at most: logins must leave the machine to those who are logged in.
const THREADS_MAX: usize = 4;
/// The longest password, in bytes, that bcrypt looks at as a whole.
const PASSWORD_BYTES_MAX: usize = 72;

type Job = Box<dyn FnOnce() + Send>;

/// The way to the threads.
#[derive(Clone, Debug)]
pub(crate) struct Passwords {
    cost: u32,
    threads: Arc<OnceLock<Threads>>,
}

/// Each thread has a queue of its own; jobs go round.
#[derive(Debug)]
struct Threads {
    queues: Vec<SyncSender<Job>>,
    next: AtomicUsize,
}

impl Passwords {
    /// Hashes will cost 2^`cost` rounds.
    pub(super) fn new(cost: u32) -> Self {
        Self { cost, threads: Arc::default() }
    }

    /// The hash of a password, as Go's bcrypt writes it.
    ///
    /// # Errors
    /// If it is longer than 72 bytes, or too many wait.
    pub(super) async fn hash(&self, password: Zeroizing<String>) -> Result<String, Error> {
        if password.len() > PASSWORD_BYTES_MAX {
            return Err(Error::PasswordTooLong);
        }
        let cost = self.cost;
        let hash = move || {
            let salt = getrandom::u64().and_then(|a| getrandom::u64().map(|b| [a, b]));
            let salt = salt.expect("the kernel has randomness once it runs");
            let salt = (u128::from(salt[0]) << 64 | u128::from(salt[1])).to_le_bytes();
            bcrypt::hash_with_salt(password.as_bytes(), cost, salt)
                .map(|parts| parts.format_for_version(Version::TwoA))
        };
        let hashed: Result<String, BcryptError> = self.run(hash).await?;
        Ok(hashed.expect("the cost was checked"))
    }

    /// Whether a password has a hash. `None` stands for the hash of a user that is not there: it costs as much, so that
    /// nobody learns by the clock which users there are.
    ///
    /// # Errors
    /// If too many wait.
    pub(super) async fn verify(
        &self,
        password: Zeroizing<String>,
        hash: Option<Bytes>,
    ) -> Result<bool, Error> {
        let cost = self.cost;
        let verify = move || {
            let hash = hash.as_deref().map(core::str::from_utf8);
            match hash {
                Some(Ok(hash)) => bcrypt::verify(password.as_bytes(), hash).unwrap_or(false),
                Some(Err(_)) => false,
                None => {
                    drop(bcrypt::hash_with_salt(password.as_bytes(), cost, [0; 16]));
                    false
                }
            }
        };
        self.run(verify).await
    }

    async fn run<T: Send + 'static>(
        &self,
        job: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Error> {
        let (answer, answered) = oneshot::channel();
        // Whoever asked may be gone.
        let job = move || drop(answer.send(job()));
        if !self.threads.get_or_init(Threads::start).take(Box::new(job)) {
            tracing::warn!(waiting = WAITING_MAX, "too many passwords are being checked");
            return Err(Error::RequestTooManyRequests);
        }
        let answered = tokio::task::coop::unconstrained(answered).await;
        answered.map_err(|_| Error::RequestTooManyRequests)
    }
}

impl Threads {
    /// Starts them. One that cannot be started is not there; without any, nobody can log in, and is told so.
    fn start() -> Self {
        let threads = thread::available_parallelism().map_or(1, |cores| cores.get() / 2);
        let threads = threads.clamp(1, THREADS_MAX);
        let mut queues = Vec::new();
        for _ in 0..threads {
            let (queue, jobs) = sync_channel::<Job>(WAITING_MAX / threads);
            let work = move || jobs.into_iter().for_each(|job| job());
            match thread::Builder::new().name("cairn-password".into()).spawn(work) {
                Ok(_) => queues.push(queue),
                Err(error) => {
                    tracing::error!(error = %error, "cannot start a thread for passwords");
                }
            }
        }
        Self { queues, next: AtomicUsize::new(0) }
    }

    /// Whether a thread has room for a job.
    fn take(&self, mut job: Job) -> bool {
        let first = self.next.fetch_add(1, Ordering::Relaxed);
        for turn in 0..self.queues.len() {
            let queue = &self.queues[first.wrapping_add(turn) % self.queues.len()];
            match queue.try_send(job) {
                Ok(()) => return true,
                Err(TrySendError::Full(back) | TrySendError::Disconnected(back)) => job = back,
            }
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::future::{Future as _, poll_fn};
    use core::task::Poll;

    fn secret(text: &str) -> Zeroizing<String> {
        Zeroizing::new(text.to_owned())
    }

    #[tokio::test]
    async fn a_hash_is_of_its_password_and_of_no_other() {
        let passwords = Passwords::new(4);
        let hash = passwords.hash(secret("hush")).await.unwrap();
        assert!(hash.starts_with("$2a$04$"), "{hash}");
        let hash = Bytes::from(hash);
        assert_eq!(passwords.verify(secret("hush"), Some(hash.clone())).await, Ok(true));
        assert_eq!(passwords.verify(secret("husk"), Some(hash)).await, Ok(false));
        assert_eq!(passwords.verify(secret(""), Some(Bytes::new())).await, Ok(false));
        assert_eq!(passwords.verify(secret(""), None).await, Ok(false));
        let long = passwords.hash(secret(&"x".repeat(73))).await;
        assert_eq!(long, Err(Error::PasswordTooLong));
        let empty = Bytes::from(passwords.hash(secret("")).await.unwrap());
        assert_eq!(passwords.verify(secret(""), Some(empty)).await, Ok(true));
    }

    #[tokio::test]
    async fn hashes_of_gos_bcrypt_are_understood() {
        // golang.org/x/crypto/bcrypt's own test: "allmine" at cost 10.
        let hash = "$2a$10$XajjQvNhvvRt5GSeFk1xFeyqRrsxkhBkUiQeg0dt.wU1qD4aFDcga";
        let passwords = Passwords::new(4);
        let verified = passwords.verify(secret("allmine"), Some(Bytes::from(hash))).await;
        assert_eq!(verified, Ok(true));
    }

    #[tokio::test]
    async fn who_comes_when_too_many_wait_is_turned_away() {
        let passwords = Passwords::new(4);
        let mut blocked = Vec::new();
        let mut turned_away = false;
        for _ in 0..WAITING_MAX + THREADS_MAX + 1 {
            let (go, wait) = std::sync::mpsc::channel::<()>();
            let running = passwords.clone();
            let mut job = Box::pin(async move { running.run(move || wait.recv().is_ok()).await });
            let polled = poll_fn(|context| Poll::Ready(job.as_mut().poll(context))).await;
            turned_away |= polled == Poll::Ready(Err(Error::RequestTooManyRequests));
            blocked.push((go, job));
        }
        assert!(turned_away);
    }
}
