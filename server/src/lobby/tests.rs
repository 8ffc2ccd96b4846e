//! Who waits, who is ended, and what is read.

use cairn_io::runtime::Tokio;
use tokio::io::{AsyncWriteExt as _, DuplexStream, duplex};
use tokio::runtime::Builder;
use tokio::task::{JoinHandle, LocalSet, spawn_local, yield_now};

use super::*;

const LONG: Duration = Duration::from_secs(3600);
const NO_TIME: Duration = Duration::ZERO;

type Outcome = JoinHandle<Result<Bytes, Silent>>;

/// Somebody who connects, and has said enough after so many bytes.
fn guest(lobby: &Lobby, limit: Duration, enough: usize) -> (DuplexStream, Outcome) {
    let (there, here) = duplex(enough);
    let lobby = lobby.clone();
    let words = async move {
        let mut io: Io = Box::new(here);
        lobby.first_words::<Tokio>(&mut io, limit, |words| words.len() >= enough).await
    };
    (there, spawn_local(words))
}

fn run(test: impl AsyncFnOnce(Lobby, watch::Sender<bool>)) {
    let runtime = Builder::new_current_thread().enable_time().build().unwrap();
    LocalSet::new().block_on(&runtime, async {
        let (stop, stopping) = watch::channel(false);
        test(Lobby::new(stopping), stop).await;
    });
}

/// Everybody gets a turn; tokio gives one to 61 tasks at a time.
async fn settle() {
    for _ in 0..2 * GUESTS_MAX / 61 {
        yield_now().await;
    }
}

#[test]
fn words_come_in_pieces_and_whole() {
    run(async |lobby, _stop| {
        let (mut there, outcome) = guest(&lobby, LONG, 4);
        there.write_all(b"ab").await.unwrap();
        settle().await;
        assert_eq!(lobby.0.bytes.get(), 2);
        assert!(!outcome.is_finished());
        there.write_all(b"cd").await.unwrap();
        assert_eq!(outcome.await.unwrap().unwrap(), "abcd");
        assert_eq!((lobby.0.bytes.get(), lobby.0.guests.borrow().len()), (0, 0));
    });
}

#[test]
fn whoever_hangs_up_is_gone() {
    run(async |lobby, _stop| {
        let (there, outcome) = guest(&lobby, LONG, 4);
        settle().await;
        drop(there);
        assert!(matches!(outcome.await.unwrap(), Err(Silent::Gone(_))));
        assert!(lobby.0.guests.borrow().is_empty());
    });
}

#[test]
fn whose_time_is_up_is_ended_and_nobody_else() {
    run(async |lobby, _stop| {
        let (_slow, slow) = guest(&lobby, NO_TIME, 4);
        let (_patient, patient) = guest(&lobby, LONG, 4);
        assert!(matches!(slow.await.unwrap(), Err(Silent::Ended)));
        assert!(!patient.is_finished());
        assert_eq!(lobby.0.guests.borrow().len(), 1);
    });
}

#[test]
fn one_too_many_ends_whoever_is_closest_to_the_limit() {
    run(async |lobby, _stop| {
        let guests: Vec<_> = (0..GUESTS_MAX).map(|_| guest(&lobby, LONG, 4)).collect();
        settle().await;
        assert!(guests.iter().all(|(_, outcome)| !outcome.is_finished()));
        let (_there, newest) = guest(&lobby, LONG, 4);
        settle().await;
        assert!(guests[0].1.is_finished());
        assert!(!guests[1].1.is_finished() && !newest.is_finished());
    });
}

#[test]
fn bytes_have_a_limit_for_all_together() {
    run(async |lobby, _stop| {
        let share = BYTES_MAX / 8;
        let mut guests: Vec<_> = (0..9).map(|_| guest(&lobby, LONG, share + 1)).collect();
        for (there, _) in &mut guests {
            there.write_all(&vec![7; share]).await.unwrap();
        }
        settle().await;
        let ended: Vec<_> = guests.iter().map(|(_, outcome)| outcome.is_finished()).collect();
        assert_eq!(ended.iter().filter(|ended| **ended).count(), 1);
        assert!(ended[0]);
        assert!(lobby.0.bytes.get() <= BYTES_MAX);
    });
}

#[test]
fn a_member_that_stops_ends_them_all() {
    run(async |lobby, stop| {
        let (_there, outcome) = guest(&lobby, LONG, 4);
        settle().await;
        stop.send(true).unwrap();
        assert!(matches!(outcome.await.unwrap(), Err(Silent::Ended)));
        assert!(lobby.0.guests.borrow().is_empty());
    });
}
