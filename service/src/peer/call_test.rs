//! Calls through a pool to a served node.

use crate::peer::frame::FrameType;
use crate::peer::test_support::{ECHO, NEVER, PANIC, PATIENCE, TestNode, WAIT, accept, id, pool, receive};
use crate::peer::{
    CALL_BYTES_MAX, CALLS_IN_FLIGHT_MAX, CallChannel, CallError, Channel, ChannelMetrics, DialError,
    FrameError, IN_FLIGHT_BYTES_MAX, Lost, NotSent, Peer, PeerIdentity, PeerMetrics, PeerPool, PendingCall,
    Refusal, RefusalReason,
};
use bytes::Bytes;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;

async fn echo(peer: &Peer, channel: CallChannel) -> Result<Bytes, CallError> {
    peer.call(channel, ECHO, Bytes::from_static(b"hello"), PATIENCE).await
}

fn start(peer: &Peer, channel: CallChannel, kind: u8, payload: impl Into<Bytes>) -> PendingCall {
    peer.start(channel, kind, payload.into(), PATIENCE).unwrap()
}

#[tokio::test]
async fn pipelined_calls_get_their_own_answers_in_any_order() {
    let node = TestNode::start(id(2)).await;
    let (pool, metrics) = pool(id(1));
    let peer = pool.peer(id(2), &node.address.to_string());
    for channel in [CallChannel::Append, CallChannel::Control] {
        let slow = start(&peer, channel, WAIT, "slow");
        let quick: Vec<_> = (0..50).map(|n| start(&peer, channel, ECHO, format!("call {n}"))).collect();
        for (n, call) in quick.into_iter().enumerate() {
            assert_eq!(call.answer().await.unwrap(), format!("call {n}"));
        }
        node.service.gate.add_permits(1);
        assert_eq!(slow.answer().await.unwrap(), "slow");
        let numbers: &ChannelMetrics = metrics.channel(channel.into());
        assert_eq!((numbers.connects(), numbers.frames_out(), numbers.frames_in()), (1, 51, 51));
        assert!(numbers.bytes_out() > 51 * 18 && numbers.bytes_in() > 51 * 18);
    }
    let (count, sum) = metrics.control_rtt_micros();
    assert_eq!(count, 51);
    assert!(0 < sum && metrics.control_rtt_micros_last() <= sum);
    pool.close().await;
    node.stop().await;
}

#[tokio::test]
async fn appends_are_started_in_the_order_of_the_calls() {
    let node = TestNode::start(id(2)).await;
    let (pool, _) = pool(id(1));
    let peer = pool.peer(id(2), &node.address.to_string());
    let sent: Vec<_> = (0..CALLS_IN_FLIGHT_MAX).map(|n| Bytes::from(n.to_string())).collect();
    let calls: Vec<_> = sent.iter().map(|n| start(&peer, CallChannel::Append, WAIT, n.clone())).collect();
    node.service.gate.add_permits(sent.len());
    for (call, payload) in calls.into_iter().zip(&sent) {
        assert_eq!(call.answer().await.unwrap(), payload);
    }
    assert_eq!(*node.service.noted.lock().unwrap(), sent);
    pool.close().await;
    node.stop().await;
}

#[tokio::test]
async fn a_call_that_times_out_says_that_it_was_sent() {
    let node = TestNode::start(id(2)).await;
    let (pool, _) = pool(id(1));
    let peer = pool.peer(id(2), &node.address.to_string());
    echo(&peer, CallChannel::Append).await.unwrap();
    let call = peer.call(CallChannel::Append, NEVER, Bytes::new(), Duration::from_millis(200)).await;
    assert!(matches!(call, Err(CallError::Lost(Lost::TimedOut))), "{call:?}");
    assert_eq!(echo(&peer, CallChannel::Append).await.unwrap(), "hello");
    assert_eq!(node.service.admitted.lock().unwrap().len(), 1, "the connection was kept");
    pool.close().await;
    node.stop().await;
}

#[tokio::test]
async fn a_call_that_times_out_while_connecting_says_that_it_was_not_sent() {
    // The kernel completes connections to this listener, and nothing ever answers the hello.
    let mute = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (pool, _) = pool(id(1));
    let peer = pool.peer(id(2), &mute.local_addr().unwrap().to_string());
    let call = peer.call(CallChannel::Control, ECHO, Bytes::new(), Duration::from_millis(50)).await;
    assert!(matches!(call, Err(CallError::NotSent(NotSent::TimedOut | NotSent::Unreachable(_)))), "{call:?}");
    pool.close().await;
}

#[tokio::test]
async fn a_peer_that_does_not_answer_the_handshake_is_unreachable() {
    let mute = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (pool, metrics) = pool(id(1));
    let peer = pool.peer(id(2), &mute.local_addr().unwrap().to_string());
    let call = echo(&peer, CallChannel::Control).await;
    let silent = matches!(call, Err(CallError::NotSent(NotSent::Unreachable(DialError::Silent { .. }))));
    assert!(silent, "{call:?}");
    assert_eq!(metrics.channel(Channel::Control).dial_failures(), 1);
    pool.close().await;
}

#[tokio::test]
async fn a_peer_that_owes_an_answer_and_is_silent_is_dialed_again() {
    let node = TestNode::start(id(2)).await;
    let (pool, metrics) = pool(id(1));
    let peer = pool.peer(id(2), &node.address.to_string());
    echo(&peer, CallChannel::Control).await.unwrap();
    let call = start(&peer, CallChannel::Control, NEVER, "").answer().await;
    let Err(CallError::Lost(Lost::Broken(cause))) = call else { panic!("{call:?}") };
    assert!(matches!(*cause, FrameError::Silent { .. }), "{cause}");
    assert_eq!(echo(&peer, CallChannel::Control).await.unwrap(), "hello");
    assert_eq!(metrics.channel(Channel::Control).connects(), 2);
    pool.close().await;
    node.stop().await;
}

#[tokio::test]
async fn calls_beyond_the_window_are_refused_at_once() {
    let node = TestNode::start(id(2)).await;
    let (pool, _) = pool(id(1));
    let peer = pool.peer(id(2), &node.address.to_string());
    let calls: Vec<_> =
        (0..CALLS_IN_FLIGHT_MAX).map(|_| start(&peer, CallChannel::Append, WAIT, "x")).collect();
    let refused = echo(&peer, CallChannel::Append).await;
    assert!(matches!(refused, Err(CallError::NotSent(NotSent::WindowFull))), "{refused:?}");
    echo(&peer, CallChannel::Control).await.unwrap();
    node.service.gate.add_permits(calls.len());
    for call in calls {
        call.answer().await.unwrap();
    }
    echo(&peer, CallChannel::Append).await.unwrap();
    pool.close().await;
    node.stop().await;
}

#[tokio::test]
async fn the_window_is_bounded_in_bytes_too() {
    let node = TestNode::start(id(2)).await;
    let (pool, _) = pool(id(1));
    let peer = pool.peer(id(2), &node.address.to_string());
    let large = Bytes::from(vec![7; CALL_BYTES_MAX]);
    let calls: Vec<_> = (0..IN_FLIGHT_BYTES_MAX / CALL_BYTES_MAX)
        .map(|_| start(&peer, CallChannel::Append, WAIT, large.clone()))
        .collect();
    let refused = peer.call(CallChannel::Append, ECHO, large.clone(), PATIENCE).await;
    assert!(matches!(refused, Err(CallError::NotSent(NotSent::WindowFull))), "{refused:?}");
    node.service.gate.add_permits(calls.len());
    for call in calls {
        assert_eq!(call.answer().await.unwrap(), large);
    }
    let too_large = peer.call(CallChannel::Append, ECHO, vec![0; CALL_BYTES_MAX + 1].into(), PATIENCE).await;
    assert!(matches!(too_large, Err(CallError::NotSent(NotSent::TooLarge { .. }))), "{too_large:?}");
    pool.close().await;
    node.stop().await;
}

#[tokio::test]
async fn a_peer_that_stops_reading_appends_still_answers_control_calls() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (pool, _) = pool(id(1));
    let peer = pool.peer(id(2), &listener.local_addr().unwrap().to_string());
    let stuck: Vec<_> = (0..2).map(|_| start(&peer, CallChannel::Append, ECHO, vec![0; 7 << 20])).collect();
    let (hello, append) = accept(&listener).await;
    assert_eq!(hello.channel, Channel::Append);
    let queued = start(&peer, CallChannel::Append, ECHO, "behind the large ones");

    let answering = tokio::spawn(async move {
        let (hello, mut control) = accept(&listener).await;
        assert_eq!(hello.channel, Channel::Control);
        for _ in 0..100 {
            let frame = receive(&mut control).await;
            control.writer.write(FrameType::Response, frame.id, &[], b"beat").await.unwrap();
            control.writer.flush().await.unwrap();
        }
        control
    });
    for _ in 0..100 {
        let beat = peer.call(CallChannel::Control, ECHO, Bytes::new(), Duration::from_secs(2)).await;
        assert_eq!(beat.unwrap(), "beat");
    }
    for call in stuck.into_iter().chain([queued]) {
        let answer = tokio::time::timeout(Duration::ZERO, call.answer()).await;
        assert!(answer.is_err(), "an append was answered by a peer that reads none: {answer:?}");
    }
    drop((append, answering.await.unwrap()));
    pool.close().await;
}

#[tokio::test]
async fn a_call_that_is_dropped_in_the_queue_is_never_sent() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (pool, _) = pool(id(1));
    let peer = pool.peer(id(2), &listener.local_addr().unwrap().to_string());
    let connecting = start(&peer, CallChannel::Append, ECHO, "kept");
    // Nobody has accepted yet, so all of these are in the queue.
    drop(start(&peer, CallChannel::Append, ECHO, "dropped"));
    let late = start(&peer, CallChannel::Append, ECHO, "kept too");
    let (_, mut link) = accept(&listener).await;
    assert_eq!(receive(&mut link).await.payload[1..], *b"kept");
    assert_eq!(receive(&mut link).await.payload[1..], *b"kept too");
    drop((connecting, late));
    pool.close().await;
}

#[tokio::test]
async fn a_broken_connection_fails_its_calls_at_once_and_the_next_call_reconnects() {
    let node = TestNode::start(id(2)).await;
    let address = node.address;
    let (pool, metrics) = pool(id(1));
    let peer = pool.peer(id(2), &address.to_string());
    echo(&peer, CallChannel::Append).await.unwrap();
    let waiting: Vec<_> = (0..10).map(|_| start(&peer, CallChannel::Append, NEVER, "x")).collect();
    echo(&peer, CallChannel::Append).await.unwrap();
    node.stop().await;
    for call in waiting {
        let lost = call.answer().await;
        assert!(matches!(lost, Err(CallError::Lost(Lost::Broken(_)))), "{lost:?}");
    }
    let refused = echo(&peer, CallChannel::Append).await;
    assert!(matches!(refused, Err(CallError::NotSent(NotSent::Unreachable(_)))), "{refused:?}");

    let node = TestNode::start_at(id(2), address).await;
    let reached = tokio::time::timeout(PATIENCE, async {
        while echo(&peer, CallChannel::Append).await.is_err() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    reached.await.unwrap();
    assert_eq!(metrics.channel(Channel::Append).connects(), 2);
    pool.close().await;
    node.stop().await;
}

#[tokio::test]
async fn calls_fail_fast_while_the_line_backs_off() {
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let (pool, metrics) = pool(id(1));
    let peer = pool.peer(id(2), &gone.to_string());
    for _ in 0..1_000 {
        let refused = echo(&peer, CallChannel::Control).await;
        let Err(CallError::NotSent(NotSent::Unreachable(DialError::Unreachable { address, .. }))) = refused
        else {
            panic!("{refused:?}")
        };
        assert_eq!(*address, *gone.to_string());
    }
    let dials = metrics.channel(Channel::Control).dial_failures();
    assert!((1..500).contains(&dials), "1000 calls dialed {dials} times");
    pool.close().await;
}

#[tokio::test]
async fn every_refusal_reaches_the_dialer_with_its_reason() {
    let node = TestNode::start(id(2)).await;
    let refusals = [
        Refusal::WrongNode { actual: id(9) },
        Refusal::WrongCluster { actual: "cluster-b".to_owned() },
        Refusal::UnsupportedVersion { min: 3, max: 4 },
        Refusal::Removed,
        Refusal::NotAccepting,
        Refusal::Busy,
    ];
    for refusal in refusals {
        *node.service.refuse.lock().unwrap() = Some(refusal.clone());
        let (pool, metrics) = pool(id(1));
        let refused = echo(&pool.peer(id(2), &node.address.to_string()), CallChannel::Control).await;
        assert_eq!(refusal_of(refused), refusal);
        assert_eq!(metrics.refused_there(refusal.reason()), 1, "{}", refusal.reason().name());
        assert_eq!(node.metrics.refused_here(refusal.reason()), 1);
        pool.close().await;
    }
    let all: u64 = RefusalReason::ALL.into_iter().map(|reason| node.metrics.refused_here(reason)).sum();
    assert_eq!(all, 6);
    node.stop().await;
}

#[tokio::test]
async fn a_dialer_that_means_another_node_or_cluster_is_told_who_answers() {
    let node = TestNode::start(id(2)).await;
    let (pool, _) = pool(id(1));
    let wrong_node = echo(&pool.peer(id(7), &node.address.to_string()), CallChannel::Control).await;
    assert_eq!(refusal_of(wrong_node), Refusal::WrongNode { actual: id(2) });
    pool.close().await;

    let identity = PeerIdentity { node: id(1), software: "0.1.0".to_owned() };
    let pool = PeerPool::new(identity, Arc::<PeerMetrics>::default());
    let stranger = pool.peer(id(2), &node.address.to_string());
    let no_cluster = echo(&stranger, CallChannel::Append).await;
    assert_eq!(refusal_of(no_cluster), Refusal::WrongCluster { actual: "cluster-a".to_owned() });
    pool.join_cluster("cluster-b").unwrap();
    assert_eq!(pool.join_cluster("cluster-a"), Err("cluster-b".to_owned()));
    let wrong_cluster = echo(&stranger, CallChannel::Control).await;
    assert_eq!(refusal_of(wrong_cluster), Refusal::WrongCluster { actual: "cluster-a".to_owned() });
    pool.close().await;
    node.stop().await;
}

fn refusal_of(refused: Result<Bytes, CallError>) -> Refusal {
    match refused {
        Err(CallError::NotSent(NotSent::Unreachable(DialError::Refused { refusal, .. }))) => refusal,
        other => panic!("not refused: {other:?}"),
    }
}

#[tokio::test]
async fn a_handler_that_panics_costs_its_connection_only() {
    let node = TestNode::start(id(2)).await;
    let (pool, _) = pool(id(1));
    let peer = pool.peer(id(2), &node.address.to_string());
    echo(&peer, CallChannel::Append).await.unwrap();
    let lost = start(&peer, CallChannel::Append, PANIC, "").answer().await;
    assert!(matches!(lost, Err(CallError::Lost(Lost::Broken(_)))), "{lost:?}");
    assert_eq!(echo(&peer, CallChannel::Append).await.unwrap(), "hello");
    pool.close().await;
    node.stop().await;
}

#[tokio::test]
async fn peers_of_one_id_share_connections_and_another_address_starts_over() {
    let (first, second) = (TestNode::start(id(2)).await, TestNode::start(id(2)).await);
    let (pool, metrics) = pool(id(1));
    for _ in 0..3 {
        echo(&pool.peer(id(2), &first.address.to_string()), CallChannel::Control).await.unwrap();
    }
    assert_eq!(metrics.channel(Channel::Control).connects(), 1);
    echo(&pool.peer(id(2), &second.address.to_string()), CallChannel::Control).await.unwrap();
    assert_eq!(second.service.admitted.lock().unwrap().len(), 1);
    pool.retain(|kept| kept != id(2));
    echo(&pool.peer(id(2), &second.address.to_string()), CallChannel::Control).await.unwrap();
    assert_eq!(metrics.channel(Channel::Control).connects(), 3);
    pool.close().await;
    first.stop().await;
    second.stop().await;
}

#[tokio::test]
async fn a_closed_pool_fails_what_runs_and_what_comes() {
    let node = TestNode::start(id(2)).await;
    let (pool, _) = pool(id(1));
    let peer = pool.peer(id(2), &node.address.to_string());
    echo(&peer, CallChannel::Append).await.unwrap();
    let running = start(&peer, CallChannel::Append, NEVER, "");
    echo(&peer, CallChannel::Append).await.unwrap();
    pool.close().await;
    let lost = running.answer().await;
    assert!(matches!(lost, Err(CallError::Lost(Lost::Closed))), "{lost:?}");
    let refused = echo(&peer, CallChannel::Append).await;
    assert!(matches!(refused, Err(CallError::NotSent(NotSent::Closed))), "{refused:?}");
    node.stop().await;
}
