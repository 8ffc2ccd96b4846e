//! The two runtimes do the same: every test here runs on both.
#![expect(clippy::unwrap_used, reason = "the linter does not see that helpers of tests are tests")]

use core::cell::{Cell, RefCell};
use core::future::Future;
use core::num::NonZeroUsize;
use core::time::Duration;
use std::io::{IoSlice, Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::sync::Arc;
use std::thread;

use ::tokio::io::{AsyncReadExt as _, AsyncWrite as _, AsyncWriteExt as _};
use cairn_io::listener::{self, accept_each};
use cairn_io::mailbox::{Receiver, Sender, Undelivered, mailbox};
use cairn_io::runtime::{
    Address, Connection, Executor, Glommio, LaunchError, Plan, Runtime, Tokio, run,
};

/// Makes a test for each runtime out of a function that is generic over it.
macro_rules! on_both {
    ($($name:ident)*) => {
        mod glommio { $(#[test] fn $name() { super::$name::<super::Glommio>(); })* }
        mod tokio { $(#[test] fn $name() { super::$name::<super::Tokio>(); })* }
    };
}

on_both! {
    a_spawned_task_runs_after_its_parent_returns
    sleep_is_never_early
    a_connection_echoes
    a_unix_socket_echoes
    vectored_writes_arrive_in_order
    a_refused_connection_is_an_error
    tasks_end_with_their_executor
    tasks_that_are_spawned_while_closing_end_too
    one_task_waits_for_forty_thousand_senders
    mail_from_another_thread_wakes_a_parked_executor
    a_full_mailbox_says_so
    hundreds_of_mailboxes_are_served_in_one_turn
    executors_exchange_mail_and_return_in_order
    a_long_turn_yields
    a_panic_ends_the_executor
}

/// Runs `entry` on one executor.
fn block_on<R: Executor, F>(entry: impl FnOnce() -> F + Send + 'static) -> F::Output
where
    F: Future<Output: Send> + 'static,
{
    run::<R, _, _, _>(Plan::default(), vec![entry], |_, entry| entry()).unwrap().pop().unwrap()
}

/// A free port on a loopback address that no other process takes ports from, so that the port can be given
/// back and taken again.
fn any_port() -> Address {
    let [a, b, c, _] = std::process::id().to_le_bytes();
    Address::Tcp(core::net::SocketAddr::from(([127, 1 + (c & 63), b, a], 0)))
}

fn a_spawned_task_runs_after_its_parent_returns<R: Executor>() {
    block_on::<R, _>(|| async {
        let ran = Rc::new(Cell::new(false));
        let seen = Rc::clone(&ran);
        R::spawn(async move { seen.set(true) });
        assert!(!ran.get());
        while !ran.get() {
            R::sleep(Duration::from_millis(1)).await;
        }
    });
}

fn sleep_is_never_early<R: Executor>() {
    block_on::<R, _>(|| async {
        for microseconds in [0, 1, 300, 2000] {
            let began = R::now();
            R::sleep(Duration::from_micros(microseconds)).await;
            assert!(R::now() - began >= microseconds * 1000);
        }
        R::sleep_until(0).await;
    });
}

async fn echo(mut connection: Connection) {
    let mut bytes = vec![0; 10_000];
    while let Ok(count @ 1..) = connection.read(&mut bytes).await {
        connection.write_all(&bytes[..count]).await.unwrap();
    }
    connection.shutdown().await.unwrap();
}

fn a_connection_echoes<R: Executor>() {
    let prepared = listener::bind(&any_port(), NonZeroUsize::MIN).unwrap().pop().unwrap();
    let Address::Tcp(address) = prepared.address().unwrap() else { panic!("TCP") };
    let (stop, mut stopped) = mailbox::<()>(1);
    let client = thread::spawn(move || {
        let sent: Vec<u8> = (0..1_000_000u32).map(|n| n.to_le_bytes()[0]).collect();
        let mut writer = TcpStream::connect(address).unwrap();
        let mut reader = writer.try_clone().unwrap();
        let expected = sent.clone();
        let reading = thread::spawn(move || {
            let mut received = Vec::new();
            reader.read_to_end(&mut received).unwrap();
            assert!(received == expected, "{} bytes", received.len());
        });
        writer.write_all(&sent).unwrap();
        writer.shutdown(Shutdown::Write).unwrap();
        reading.join().unwrap();
        stop.try_send(()).unwrap();
    });
    block_on::<R, _>(move || async move {
        let listener = R::listen(prepared).unwrap();
        R::spawn(async move {
            let serve = |stream, peer: Address| {
                assert!(peer.to_string().starts_with("127."));
                R::spawn(echo(Box::new(stream)));
            };
            accept_each::<R>(listener, serve, |error| panic!("{error}")).await;
        });
        stopped.receive(&mut Vec::new(), 1).await;
    });
    client.join().unwrap();
}

fn a_unix_socket_echoes<R: Executor>() {
    let name = core::any::type_name::<R>().replace("::", "-");
    let path = std::env::temp_dir().join(format!("{name}-{}", std::process::id()));
    let address = Address::Unix(path.clone());
    block_on::<R, _>(move || async move {
        let listener = R::bind(&address).unwrap();
        R::spawn(async move {
            let (stream, _) = R::accept(&listener).await.unwrap();
            echo(Box::new(stream)).await;
        });
        let mut connection = R::connect(&address).await.unwrap();
        connection.write_all(b"hello").await.unwrap();
        connection.shutdown().await.unwrap();
        let mut answer = Vec::new();
        connection.read_to_end(&mut answer).await.unwrap();
        assert_eq!(answer, b"hello");
    });
    // The socket file is a leftover now: nobody listens, so it is replaced.
    let address = Address::Unix(path.clone());
    let again = listener::bind(&address, NonZeroUsize::MIN).unwrap();
    assert!(UnixStream::connect(&path).is_ok());
    let taken = listener::bind(&address, NonZeroUsize::MIN).unwrap_err();
    assert_eq!(taken.to_string(), format!("unix:{} is in use by another process", path.display()));
    drop(again);
    std::fs::remove_file(path).unwrap();
}

fn vectored_writes_arrive_in_order<R: Executor>() {
    block_on::<R, _>(|| async {
        let listening = listener::bind(&any_port(), NonZeroUsize::MIN).unwrap().pop().unwrap();
        let address = listening.address().unwrap();
        let listener = R::listen(listening).unwrap();
        let received = Rc::new(RefCell::new(Vec::new()));
        let into = Rc::clone(&received);
        let (done, finished) = ::tokio::sync::oneshot::channel();
        R::spawn(async move {
            let (mut stream, _) = R::accept(&listener).await.unwrap();
            let mut all = Vec::new();
            // Late, so that the sender meets a full socket buffer.
            R::sleep(Duration::from_millis(20)).await;
            stream.read_to_end(&mut all).await.unwrap();
            into.replace(all);
            done.send(()).unwrap();
        });
        let mut stream = R::connect(&address).await.unwrap();
        assert!(stream.is_write_vectored());
        let mut sent = Vec::new();
        for round in 0..200u32 {
            let parts: Vec<Vec<u8>> =
                (0..50u32).map(|part| vec![(round + part).to_le_bytes()[0]; 1000]).collect();
            let whole = parts.concat();
            let slices: Vec<_> = parts.iter().map(|part| IoSlice::new(part)).collect();
            let written = stream.write_vectored(&slices).await.unwrap();
            stream.write_all(&whole[written..]).await.unwrap();
            sent.extend(whole);
        }
        stream.shutdown().await.unwrap();
        finished.await.unwrap();
        assert!(*received.borrow() == sent);
    });
}

fn a_refused_connection_is_an_error<R: Executor>() {
    block_on::<R, _>(|| async {
        let listening = listener::bind(&any_port(), NonZeroUsize::MIN).unwrap().pop().unwrap();
        let address = listening.address().unwrap();
        drop(listening);
        let error = R::connect(&address).await.err().unwrap();
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused);
        let nowhere = Address::Unix("/nowhere/socket".into());
        let error = R::connect(&nowhere).await.err().unwrap();
        assert_eq!(error.kind(), std::io::ErrorKind::NotFound);
    });
}

struct CountsDrops(Arc<core::sync::atomic::AtomicU32>);

impl Drop for CountsDrops {
    fn drop(&mut self) {
        self.0.fetch_add(1, core::sync::atomic::Ordering::SeqCst);
    }
}

fn tasks_end_with_their_executor<R: Executor>() {
    let prepared = listener::bind(&any_port(), NonZeroUsize::MIN).unwrap().pop().unwrap();
    let Address::Tcp(address) = prepared.address().unwrap() else { panic!("TCP") };
    let drops = Arc::new(core::sync::atomic::AtomicU32::new(0));
    let counted = Arc::clone(&drops);
    let client = thread::spawn(move || {
        let mut stream = TcpStream::connect(address).unwrap();
        // The server never answers; that it closes is all there is to read.
        assert_eq!(stream.read(&mut [0; 10]).unwrap(), 0);
    });
    block_on::<R, _>(move || {
        let counted = Arc::clone(&counted);
        async move {
            let listener = R::listen(prepared).unwrap();
            let (stream, _) = R::accept(&listener).await.unwrap();
            let drop = CountsDrops(Arc::clone(&counted));
            R::spawn(async move {
                let _kept = (stream, drop);
                core::future::pending::<()>().await;
            });
            for wait in [0, 1, 1_000_000] {
                let drop = CountsDrops(Arc::clone(&counted));
                R::spawn(async move {
                    let _kept = drop;
                    R::sleep(Duration::from_millis(wait)).await;
                    core::future::pending::<()>().await;
                });
            }
            R::sleep(Duration::from_millis(5)).await;
        }
    });
    assert_eq!(drops.load(core::sync::atomic::Ordering::SeqCst), 4);
    client.join().unwrap();
    // The listener is closed too.
    assert!(TcpStream::connect(address).is_err());
}

fn tasks_that_are_spawned_while_closing_end_too<R: Executor>() {
    struct Spawns<R: Runtime>(
        u32,
        Arc<core::sync::atomic::AtomicU32>,
        core::marker::PhantomData<R>,
    );
    impl<R: Runtime> Drop for Spawns<R> {
        fn drop(&mut self) {
            self.1.fetch_add(1, core::sync::atomic::Ordering::SeqCst);
            if self.0 > 0 {
                let next = Self(self.0 - 1, Arc::clone(&self.1), self.2);
                R::spawn(async move {
                    let _kept = next;
                    core::future::pending::<()>().await;
                });
            }
        }
    }
    let drops = Arc::new(core::sync::atomic::AtomicU32::new(0));
    let counted = Arc::clone(&drops);
    block_on::<R, _>(move || {
        let first = Spawns::<R>(5, Arc::clone(&counted), core::marker::PhantomData);
        async move {
            R::spawn(async move {
                let _kept = first;
                core::future::pending::<()>().await;
            });
        }
    });
    assert_eq!(drops.load(core::sync::atomic::Ordering::SeqCst), 6);
}

fn one_task_waits_for_forty_thousand_senders<R: Executor>() {
    block_on::<R, _>(|| async {
        let (senders, mut receivers): (Vec<_>, Vec<_>) =
            (0..40_000).map(|_| ::tokio::sync::oneshot::channel::<()>()).unzip();
        R::spawn(async move {
            R::sleep(Duration::from_millis(1)).await;
            drop(senders);
        });
        let mut left = receivers.len();
        let all = core::future::poll_fn(|context| {
            receivers.retain_mut(|receiver| {
                let waits = core::pin::Pin::new(receiver).poll(context).is_pending();
                left -= usize::from(!waits);
                waits
            });
            if left == 0 { core::task::Poll::Ready(()) } else { core::task::Poll::Pending }
        });
        ::tokio::task::coop::unconstrained(all).await;
    });
}

fn mail_from_another_thread_wakes_a_parked_executor<R: Executor>() {
    let (sender, mut receiver) = mailbox(20);
    let posting = thread::spawn(move || {
        for number in 0..20 {
            thread::sleep(Duration::from_millis(3));
            sender.try_send(number).unwrap();
        }
    });
    let received = block_on::<R, _>(move || async move {
        let mut all = Vec::new();
        while receiver.receive(&mut all, 4).await > 0 {}
        all
    });
    assert_eq!(received, (0..20).collect::<Vec<_>>());
    posting.join().unwrap();
}

fn a_full_mailbox_says_so<R: Executor>() {
    block_on::<R, _>(|| async {
        let (sender, mut receiver) = mailbox(2);
        sender.try_send(1).unwrap();
        sender.try_send(2).unwrap();
        assert_eq!(sender.try_send(3), Err(Undelivered::Full(3)));
        let waiting = sender.clone();
        R::spawn(async move { waiting.send(3).await.unwrap() });
        let mut mail = Vec::new();
        while mail.len() < 3 {
            receiver.receive(&mut mail, 10).await;
        }
        assert_eq!(mail, [1, 2, 3]);
        drop(receiver);
        assert!(sender.is_closed());
        assert_eq!(sender.try_send(4), Err(Undelivered::Closed(4)));
        assert_eq!(sender.send(5).await, Err(Undelivered::Closed(5)));
    });
}

fn hundreds_of_mailboxes_are_served_in_one_turn<R: Executor>() {
    block_on::<R, _>(|| async {
        let (senders, receivers): (Vec<_>, Vec<_>) = (0..500).map(|_| mailbox(1)).unzip();
        for sender in &senders {
            sender.try_send(()).unwrap();
        }
        let mut mail = Vec::new();
        for mut receiver in receivers {
            let receive = core::pin::pin!(receiver.receive(&mut mail, 1));
            let mut context = core::task::Context::from_waker(core::task::Waker::noop());
            assert!(receive.poll(&mut context).is_ready());
        }
        assert_eq!(mail.len(), 500);
    });
}

fn executors_exchange_mail_and_return_in_order<R: Executor>() {
    const ROUNDS: u32 = 1000;
    let (to_second, second_box) = mailbox::<u32>(4);
    let (to_first, first_box) = mailbox::<u32>(4);
    let seats = vec![(to_second, first_box), (to_first, second_box)];
    let entry = |core: usize, (sender, mut receiver): (Sender<u32>, Receiver<u32>)| async move {
        if core == 0 {
            sender.try_send(0).unwrap();
        }
        let mut mail = Vec::new();
        while receiver.receive(&mut mail, 1).await > 0 {
            let number = mail.pop().unwrap();
            if number == ROUNDS || sender.send(number + 1).await.is_err() {
                break;
            }
        }
        core * 10
    };
    assert_eq!(run::<R, _, _, _>(Plan::default(), seats, entry).unwrap(), [0, 10]);
}

fn a_long_turn_yields<R: Executor>() {
    block_on::<R, _>(|| async {
        let ticks = Rc::new(Cell::new(0));
        let ticking = Rc::clone(&ticks);
        R::spawn(async move {
            loop {
                ticking.set(ticking.get() + 1);
                R::sleep(Duration::from_micros(100)).await;
            }
        });
        // Without a yield this would never end.
        while ticks.get() < 5 {
            R::yield_if_needed().await;
        }
    });
}

fn a_panic_ends_the_executor<R: Executor>() {
    let in_a_task = |_, ()| async move {
        R::spawn(async { panic!("on purpose, in a task") });
        core::future::pending::<()>().await;
    };
    let in_the_entry = |_, ()| async { panic!("on purpose, in the entry") };
    let outcome = run::<R, _, _, _>(Plan::default(), vec![()], in_a_task);
    assert!(matches!(outcome, Err(LaunchError::Panicked { core: 0 })), "{outcome:?}");
    let outcome: Result<Vec<()>, _> = run::<R, _, _, _>(Plan::default(), vec![()], in_the_entry);
    assert!(matches!(outcome, Err(LaunchError::Panicked { core: 0 })), "{outcome:?}");
}
