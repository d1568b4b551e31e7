//! What is known to be able to trap, and why nothing that comes from outside gets there.

/// Who could get there, if anything could.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// The operator's configuration alone. Envoy refuses a configuration that traps, and keeps the one it has.
    Configuration,
    /// A callback that traffic causes.
    Traffic,
}

/// Places that can trap: those that match whatever is given here.
pub struct Listed {
    /// In functions whose name begins so.
    pub function: Option<&'static str>,
    /// By a call of what is named so, or a division, or a trap.
    pub what: Option<&'static str>,
    /// With a panic that names this source.
    pub source: Option<&'static str>,
    /// So many places at the most.
    pub places: Option<usize>,
    pub reach: Reach,
    /// Why it does not happen.
    pub reason: &'static str,
}

const NONE: Listed =
    Listed { function: None, what: None, source: None, places: None, reach: Reach::Configuration, reason: "" };

pub const LISTED: &[Listed] = &[
    // Memory.
    Listed {
        what: Some("alloc::raw_vec::"),
        reach: Reach::Traffic,
        reason: "Only when memory is used up (1 GiB in Envoy), or for a length beyond what there can be: what is allocated is a \
                 small multiple of the headers (Envoy bounds them), of the store's answers (4 KiB), or of the cache (its \
                 entries are bounded).",
        ..NONE
    },
    Listed { what: Some("alloc::alloc::handle_alloc_error"), reach: Reach::Traffic, reason: "As above.", ..NONE },
    Listed {
        function: Some("sbrk"),
        what: Some("a trap"),
        reach: Reach::Traffic,
        reason: "The allocator asks for whole pages.",
        ..NONE
    },
    // Tokens that verified.
    Listed {
        function: Some("proxy_on_request_headers"),
        what: Some("a trap"),
        places: Some(1),
        reach: Reach::Traffic,
        reason: "When the references to one token overflow their count: each is a request's, and there is no memory for so many.",
        ..NONE
    },
    Listed {
        function: Some("mooring::affinity::request::<impl mooring::affinity::turn::Turn>::newest"),
        what: Some("a trap"),
        places: Some(1),
        reach: Reach::Traffic,
        reason: "As above, where it is not inlined.",
        ..NONE
    },
    // Calls to the store that wait for their turn.
    Listed {
        source: Some("alloc/src/collections/vec_deque/mod.rs"),
        places: Some(2),
        reach: Reach::Traffic,
        reason: "`VecDeque::retain` swaps items at places that it has just counted.",
        ..NONE
    },
    Listed {
        function: Some("mooring::shell::contexts::Plugin::leave"),
        what: Some("core::panicking::panic"),
        places: Some(2),
        reach: Reach::Traffic,
        reason: "As above, inlined.",
        ..NONE
    },
    Listed {
        function: Some("mooring::store::client::StoreClient::give_up_waiting"),
        what: Some("core::panicking::panic"),
        places: Some(2),
        reach: Reach::Traffic,
        reason: "As above, inlined.",
        ..NONE
    },
    // For how long a store is left alone.
    Listed {
        function: Some("mooring::store::client::answers::<impl mooring::store::client::StoreClient>::settle"),
        source: Some("core/src/time.rs"),
        places: Some(1),
        reach: Reach::Traffic,
        reason: "A difference of two durations has fewer nanoseconds than a second has.",
        ..NONE
    },
    // Words of the store's answers.
    Listed {
        source: Some("core/src/str/pattern.rs"),
        places: Some(1),
        reach: Reach::Traffic,
        reason: "A search for a letter compares as many octets as the letter has in UTF-8, of which there are four at most.",
        ..NONE
    },
    // The addresses of hosts.
    Listed {
        source: Some("core/src/net/parser.rs"),
        reach: Reach::Traffic,
        reason: "The parser cuts at places that it has just counted within the text, and fills no more groups than it was given.",
        ..NONE
    },
    Listed {
        function: Some("<core::net::parser::Parser>"),
        source: Some("core/src/char/methods.rs"),
        reach: Reach::Traffic,
        reason: "The radix of a digit is 10 or 16; the panic is for more than 36.",
        ..NONE
    },
    Listed {
        source: Some("core/src/net/display_buffer.rs"),
        reach: Reach::Traffic,
        reason: "The buffer holds the longest address there is: its size is the type's.",
        ..NONE
    },
    Listed {
        source: Some("core/src/net/ip_addr.rs"),
        reach: Reach::Traffic,
        reason: "As above: writing to that buffer does not fail.",
        ..NONE
    },
    // SHA-256.
    Listed {
        source: Some("/src/sha256/wasm32_simd128.rs"),
        reach: Reach::Traffic,
        reason: "The index of a round's constants is counted by the loop, 16 to 60; it depends on no input.",
        ..NONE
    },
    // JSON: the configuration, and the answers of webdis and Upstash.
    Listed {
        source: Some("serde_json"),
        reach: Reach::Traffic,
        reason: "serde_json's reader has an index that never passes the end of the text; fuzz/ runs it on arbitrary bytes.",
        ..NONE
    },
    Listed {
        function: Some("<core::ops::range::RangeFrom<usize> as core::slice::index::SliceIndex"),
        reach: Reach::Traffic,
        reason: "For serde_json's reader: as above.",
        ..NONE
    },
    Listed {
        source: Some("std/src/sys/io/error/"),
        reach: Reach::Traffic,
        reason: "serde_json shows errors of input and output so. It reads from memory here, where there are none.",
        ..NONE
    },
    // Formatting.
    Listed {
        source: Some("alloc/src/fmt.rs"),
        reach: Reach::Traffic,
        reason: "A format fails only where a Display does; ours do not. Used for what is logged.",
        ..NONE
    },
    Listed { source: Some("alloc/src/string.rs"), reason: "As above.", ..NONE },
    Listed {
        function: Some("mooring::config::duration::show"),
        what: Some("a division"),
        reason: "By the lengths of units, which come from a table without a zero.",
        ..NONE
    },
    // The environment.
    Listed {
        function: Some("getenv"),
        what: Some("_Exit"),
        reason: "When the proxy cannot list the VM's environment.",
        ..NONE
    },
    Listed {
        function: Some("proxy_on_configure"),
        what: Some("a trap"),
        reason: "An Rc that has been cloned 4 thousand million times aborts; the configuration's is cloned a few times.",
        ..NONE
    },
    // Output to stderr, which comes after a panic alone; the search takes every function of a type for called.
    Listed {
        function: Some("<std::sys::stdio::unix::Stderr as"),
        source: Some("std/src/io/mod.rs"),
        reach: Reach::Traffic,
        reason: "How a panic's message is written: a panic comes first.",
        ..NONE
    },
];

/// Functions that call each other.
pub struct Recursive {
    /// Whether one belongs to them.
    pub of: fn(&str) -> bool,
    /// At most so often one within the other.
    pub depth: u64,
}

pub const RECURSIVE: &[Recursive] = &[
    // serde_json refuses to go deeper than 128.
    Recursive {
        of: |name| name == "<mooring::text::json::Json as serde_core::de::Deserialize>::deserialize",
        depth: 129,
    },
    Recursive { of: |name| name == "<mooring::text::json::Json as core::cmp::PartialEq>::eq", depth: 129 },
    Recursive {
        of: |name| {
            let drops = ["mooring::text::json::Json>", "alloc::vec::Vec<mooring::text::json::Json>>"];
            drops.iter().any(|of| name.strip_prefix("core::ptr::drop_in_place<") == Some(of))
                || name == "<alloc::vec::Vec<T,A> as core::ops::drop::Drop>::drop"
        },
        depth: 129,
    },
    // Formatting. What is shown holds what is shown, three deep at most: errors, error, address.
    Recursive {
        of: |name| {
            let own = name.starts_with("core::fmt::") || name.starts_with("<core::fmt::");
            own || name.contains(" as core::fmt::")
        },
        depth: 4,
    },
    // An error of input or output that holds another, of which there are none here. The search takes every function of a type for
    // called.
    Recursive { of: |name| name.starts_with("core::ptr::drop_in_place::<std::io::"), depth: 2 },
];
