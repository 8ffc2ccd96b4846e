//! Ports: refused if taken, given back at once.
//!
//! Apart from the tests that start processes: between fork and exec, a child holds the sockets of its parent.

use core::num::NonZeroUsize;
use core::time::Duration;
use std::net::{TcpListener, TcpStream};
use std::thread;

use cairn_io::listener::{BindError, Prepared, bind};
use cairn_io::runtime::Address;

/// A free port on a loopback address that no other process takes ports from, so that the port can be given
/// back and taken again.
fn any_port() -> Address {
    let [a, b, c, _] = std::process::id().to_le_bytes();
    Address::Tcp(core::net::SocketAddr::from(([127, 1 + (c & 63), b, a], 0)))
}

#[test]
fn a_used_port_is_refused_however_many_executors_want_it() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = Address::Tcp(taken.local_addr().unwrap());
    for executors in [1, 4] {
        let error = bind(&address, NonZeroUsize::new(executors).unwrap()).unwrap_err();
        assert!(matches!(&error, BindError::InUse(used) if *used == address), "{error:?}");
        assert_eq!(error.to_string(), format!("{address} is in use by another process"));
    }
}

#[test]
fn a_shared_port_is_refused_to_a_second_server() {
    let first = bind(&any_port(), NonZeroUsize::new(3).unwrap()).unwrap();
    let address = first[0].address().unwrap();
    assert!(first.iter().all(|prepared| prepared.address().unwrap() == address));
    for executors in [1, 3] {
        let second = bind(&address, NonZeroUsize::new(executors).unwrap());
        assert!(matches!(second, Err(BindError::InUse(_))), "{second:?}");
    }
    drop(first);
    assert_eq!(bind(&address, NonZeroUsize::new(3).unwrap()).unwrap().len(), 3);
}

#[test]
fn a_restart_does_not_wait_for_old_connections() {
    let mut first = bind(&any_port(), NonZeroUsize::MIN).unwrap();
    let Some(Prepared::Tcp(listener)) = first.pop() else { panic!("TCP") };
    let address = listener.local_addr().unwrap();
    let client = TcpStream::connect(address).unwrap();
    // The side that closes first is left in TIME_WAIT.
    drop(listener.accept().unwrap());
    drop(client);
    drop(listener);
    for executors in [1, 2] {
        bind(&Address::Tcp(address), NonZeroUsize::new(executors).unwrap()).unwrap();
    }
}

#[test]
fn a_port_that_becomes_free_a_moment_later_is_taken() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let leaving = thread::spawn(move || {
        thread::sleep(Duration::from_millis(100));
        drop(taken);
    });
    assert_eq!(bind(&Address::Tcp(address), NonZeroUsize::MIN).unwrap().len(), 1);
    leaving.join().unwrap();
}

#[test]
fn an_address_that_is_not_ours_is_an_error() {
    let elsewhere = Address::Tcp("192.0.2.1:2379".parse().unwrap());
    let error = bind(&elsewhere, NonZeroUsize::MIN).unwrap_err();
    assert!(matches!(error, BindError::Failed { .. }), "{error:?}");
    assert!(error.to_string().starts_with("cannot listen on 192.0.2.1:2379: "), "{error}");
}
