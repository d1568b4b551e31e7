//! Many clients at the same moment.

use crate::stage::{Answer, Engine, Peer, peer};
use std::sync::Barrier;

const CLIENTS: usize = 64;

/// Asks all stores in turn, from many threads at once.
fn at_once(stores: &[Peer], request: impl Fn(&Peer, usize) -> Answer + Sync) -> Vec<Answer> {
    let barrier = Barrier::new(CLIENTS);
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..CLIENTS)
            .map(|client| {
                let (barrier, request) = (&barrier, &request);
                scope.spawn(move || {
                    barrier.wait();
                    request(&stores[client % stores.len()], client)
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().expect("an answer")).collect()
    })
}

fn race(stores: &[Peer]) {
    let answers = at_once(stores, |store, client| store.create("raced", &format!("v{client}"), 60));
    let winners: Vec<usize> = (0..CLIENTS).filter(|client| answers[*client].status == 201).collect();
    assert_eq!(winners.len(), 1, "{answers:?}");
    let mut current = format!("v{}", winners[0]);
    for (client, answer) in answers.iter().enumerate() {
        assert!(client == winners[0] || *answer == Answer::showing(412, &current), "{answer:?}");
    }
    for round in 0..5 {
        let answers =
            at_once(stores, |store, client| store.move_to("raced", &current, &format!("r{round}-{client}"), 60));
        let winners: Vec<usize> = (0..CLIENTS).filter(|client| answers[*client].status == 204).collect();
        assert_eq!(winners.len(), 1, "{answers:?}");
        current = format!("r{round}-{}", winners[0]);
        let losers = answers.iter().filter(|answer| **answer == Answer::showing(412, &current)).count();
        assert_eq!(losers, CLIENTS - 1, "{answers:?}");
    }
    // Whatever the order, once the logout is through nothing brings the session back.
    at_once(stores, |store, client| match client % 4 {
        0 => Answer::of(store.revoke("raced", 60)),
        1 => Answer::of(store.touch("raced", 600)),
        2 => store.create("raced", "revived", 60),
        _ => store.move_to("raced", &current, "revived", 60),
    });
    stores.iter().for_each(|store| assert_eq!(store.lookup("raced").status, 410));
}

#[test]
fn in_memory_one_of_many_wins() {
    race(&[peer(&Engine::Memory, &[])]);
}

#[test]
fn over_redis_one_of_many_wins() {
    let engine = Engine::redis();
    race(&[peer(&engine, &[]), peer(&engine, &[])]);
}

#[test]
fn over_a_cluster_one_of_many_wins() {
    let engine = Engine::cluster();
    race(&[peer(&engine, &[]), peer(&engine, &[])]);
}
