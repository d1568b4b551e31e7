//! What no update of the snapshot lifts: whoever goes beyond a limit changes it by hand, and has a reason.

use crate::kinds::kinds;

struct Limit {
    kind: &'static str,
    /// A tenth and more above what was measured: other compilers need more, and a regression of weight is found by the snapshot.
    instructions: i64,
    /// The only host calls, each at most once, and what for.
    calls: &'static [&'static str],
}

/// Every line at once, for one allocation: the path, each line of cookies, and what a client sent under internal names.
const READ_REQUEST: &str = "get_header_map_pairs request";
/// The other cookies, without the session's: the upstream does not get it.
const TAKE_COOKIE_OUT: &str = "replace_header_map_value cookie";
/// Where to, for the bridge.
const NAME_HOST: &str = "replace_header_map_value x-mooring-host";
/// The session's id, for the application.
const NAME_SESSION: &str = "replace_header_map_value x-mooring-session";
/// The bridge speaks when another host served.
const HEAR_BRIDGE: &str = "get_header_map_value x-mooring-host";
/// The application may rotate, end or release the session.
const HEAR_APPLICATION: &str = "get_header_map_value x-mooring-action";
/// An upstream that echoes what it got must not tell the client its session id. Where it is not there, looking costs as much.
const HIDE_SESSION: &str = "remove_header_map_value x-mooring-session";
/// Nor must the client get the host's address, by which the bridge speaks to the plugin.
const HIDE_HOST: &str = "remove_header_map_value x-mooring-host";
/// How old the store's copy is.
const READ_CLOCK: &str = "clock_time_get";
/// A session that a pass of the filter chain before an internal redirect left.
const READ_LEFT: &str = "get_property mooring.session.mooring";

/// What most requests are: a session stays where it is. And what has nothing to do with sessions.
const LIMITS: &[Limit] = &[
    Limit {
        kind: "resumed",
        instructions: 13_000,
        calls: &[READ_REQUEST, TAKE_COOKIE_OUT, NAME_HOST, NAME_SESSION, HEAR_BRIDGE, HEAR_APPLICATION, HIDE_SESSION],
    },
    // The three that any affinity needs: what is switched off is not paid for.
    Limit { kind: "resumed, the leanest", instructions: 9_800, calls: &[READ_REQUEST, NAME_HOST, HEAR_BRIDGE] },
    // Of the store there is nothing but the age of its copy: no call to it.
    Limit {
        kind: "resumed, the store's copy in the cache",
        instructions: 15_000,
        calls: &[
            READ_REQUEST,
            READ_CLOCK,
            TAKE_COOKIE_OUT,
            NAME_HOST,
            NAME_SESSION,
            HEAR_BRIDGE,
            HEAR_APPLICATION,
            HIDE_SESSION,
        ],
    },
    Limit {
        kind: "outside the cookie's path",
        instructions: 7_000,
        calls: &[READ_REQUEST, READ_LEFT, HEAR_BRIDGE, HEAR_APPLICATION, HIDE_HOST, HIDE_SESSION],
    },
];

#[test]
fn what_most_requests_are_stays_below_its_limits() {
    let kinds = kinds();
    for limit in LIMITS {
        let kind = kinds.iter().find(|kind| kind.name == limit.kind).expect("a kind of request");
        let traffic = kind.happen();
        let cost = traffic.plugin.cost();
        let (instructions, most) = (cost.instructions(), limit.instructions);
        assert!(instructions <= most, "{}: {instructions} instructions, of {most} at most", kind.name);
        let mut left = limit.calls.to_vec();
        for call in cost.host_calls() {
            let at = left.iter().position(|allowed| *allowed == call);
            left.remove(at.unwrap_or_else(|| panic!("{}: {call} is not allowed, or not once more", kind.name)));
        }
    }
}

#[test]
fn without_a_store_nothing_is_called() {
    for kind in kinds().iter().filter(|kind| !kind.has_store()) {
        let traffic = kind.happen();
        assert_eq!(
            traffic.plugin.cost().host_calls().find(|call| call.starts_with("http_call")),
            None,
            "{}",
            kind.name
        );
    }
}
