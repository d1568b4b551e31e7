//! The clock of the Envoys' machine is set.

use super::stage::{Scene, Stage, Storage};
use mooring_test_kit::rig::{Launch, eventually};
use mooring_test_kit::tokens;
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::process::Command;
use tempfile::TempDir;

/// The wall clock of those that are launched with it. Their monotonic clock goes on as it is.
struct WallClock {
    folder: TempDir,
    offset: File,
}

impl WallClock {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let library = folder.path().join("clock.so");
        let source = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("chaos/clock.c");
        let built = Command::new("cc").args(["-shared", "-fPIC", "-O2", "-o"]).arg(library).arg(source).status();
        assert!(built.expect("cc, which Rust links with").success());
        let offset = File::create(folder.path().join("offset")).expect("a file");
        let clock = Self { folder, offset };
        clock.set(0);
        clock
    }

    fn launch(&self) -> Launch {
        let file = |name: &str| self.folder.path().join(name).to_string_lossy().into_owned();
        let environment = [("LD_PRELOAD", file("clock.so")), ("CLOCK_OFFSET", file("offset"))];
        Launch { environment: environment.map(|(name, value)| (name.to_owned(), value)).into(), ..Launch::default() }
    }

    /// So many seconds ahead of the real one.
    fn set(&self, seconds: i64) {
        self.offset.write_all_at(&seconds.to_ne_bytes(), 0).expect("a file");
    }
}

/// More than a tenth of the idle timeout, and more than `clock_skew`; less than the idle timeout.
const STEP: i64 = 600;

/// A worker reads the clock once a second, later on a busy machine: one that has not done so since it was set back does not know that
/// a session is of the future. So many sessions in a row that begin now are as good as certain to have met both workers of the second
/// Envoy.
fn until_every_worker_goes_by_the_clock(stage: &mut Stage) {
    eventually("the workers to go by the clock", || {
        let ahead = tokens::now() + STEP as u64 / 2;
        (0..20)
            .all(|_| {
                let (begun, _) = stage.fleet.browser(1);
                tokens::session(begun.cookie().expect("a cookie")).created.0 < ahead
            })
            .then_some(())
    });
}

#[test]
fn the_clock_is_set_forward_and_back() {
    let storage = Storage::start();
    let clock = WallClock::new();
    let scene = Scene {
        launch: clock.launch(),
        ..Scene::new(18, "The clock of both Envoys is set ten minutes forward, and back")
    };
    let mut stage = Stage::set(scene, &storage.store.address);
    let (mut known, home) = stage.fleet.browser(0);
    clock.set(STEP);
    eventually("the Envoys to go by the clock", || {
        let renewed = known.get(&mut stage.fleet[0], "/");
        assert_eq!(renewed.host(), home);
        (renewed.decision() == "renewed").then_some(())
    });
    let ahead = tokens::now() + STEP as u64 / 2;
    let mut late = eventually("a session that begins in the future", || {
        let (late, _) = stage.fleet.browser(0);
        let session = tokens::session(late.cookie().expect("a cookie"));
        (session.created.0 > ahead).then_some(late)
    });
    stage.serve();
    clock.set(0);
    stage.over();
    stage.serve();
    stage.until_normal();
    let resumed = known.get(&mut stage.fleet[1], "/");
    assert_eq!((resumed.host(), resumed.decision()), (home.as_str(), "resumed".into()), "renewed in the future");
    until_every_worker_goes_by_the_clock(&mut stage);
    let began_in_the_future = late.get(&mut stage.fleet[1], "/");
    assert_eq!((began_in_the_future.status, began_in_the_future.decision()), (200, "created".into()));
    let account = stage.account();
    assert_eq!((account.failed, account.moved_host_gone), (0, 0));
    assert!(account.cookies > 0);
    let by_clients = account.counted("mooring_sessions.outcome=renewed") - 1;
    assert_eq!(account.cookies as u64, by_clients, "a renewal each, and nothing else");
    assert_eq!(account.counted("mooring_tokens_refused.reason=future"), 1);
}
