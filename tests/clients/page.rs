//! The page of `make run`, in a browser. `MOORING_PICTURE=docs/demo.png make clients-test` takes a picture of it.

use crate::browser::Browser;
use crate::stage::{APP, setup};
use mooring_test_kit::rig::{Bootstrap, EnvoyWorld};
use mooring_test_kit::servers::certs::Certificates;
use mooring_test_kit::servers::demo_host::DemoHost;
use mooring_test_kit::servers::{eventually, free_port, node_packages, root};
use mooring_test_kit::world::Bridge;
use serde_json::{Value, json};
use std::path::PathBuf;

/// Seconds that a host is away, as in `scripts/run`. No less: what the page shows meanwhile has to be read.
const BACK_AFTER: u64 = 15;

/// Two Envoys, and the hosts behind both, as `scripts/run` starts them.
struct Demo {
    envoys: Vec<EnvoyWorld>,
    hosts: Vec<DemoHost>,
}

impl Demo {
    fn start() -> Self {
        let ports = [free_port(), free_port()];
        let settings = json!({"hosts": ["a", "b", "c"], "ports": ports, "back_after": BACK_AFTER,
            "idle_timeout": 1800, "absolute_timeout": 28800});
        let hosts: Vec<DemoHost> = ["a", "b", "c"].map(|name| DemoHost::start(name, &settings)).into();
        let addresses: Vec<&str> = hosts.iter().map(|host| host.address.as_str()).collect();
        let envoys = ports.map(|port| {
            let mut bootstrap = Bootstrap::new(Bridge::StatefulSession, &addresses, &addresses);
            bootstrap.set_plugin(&setup(json!({"debug_header": "x-mooring-decision"})).plugin);
            bootstrap.listener()["address"]["socket_address"]["port_value"] = port.into();
            EnvoyWorld::run(bootstrap, Vec::new(), 2)
        });
        let demo = Self { envoys: envoys.into(), hosts };
        demo.hosts.iter().for_each(|host| demo.wait_for(host.name));
        demo
    }

    /// Waits until both Envoys have the host for healthy.
    fn wait_for(&self, name: &str) {
        let host = self.hosts.iter().find(|host| host.name == name).expect("a host");
        let line = format!("app::{}::health_flags::healthy", host.address);
        for world in &self.envoys {
            eventually("a host to be healthy", || world.envoy.admin("/clusters")?.contains(&line).then_some(()));
        }
    }

    fn url(&self, name: &str) -> String {
        self.envoys[0].url("/").replace("127.0.0.1", name)
    }

    fn host(&mut self, name: &str) -> &mut DemoHost {
        self.hosts.iter_mut().find(|host| host.name == name).expect("a host")
    }
}

/// The page, which asks only when it is told to.
struct Page {
    browser: Browser,
}

impl Page {
    fn open(url: &str) -> Self {
        let page = Self { browser: Browser::start(&Certificates::new()) };
        page.browser.open(url);
        page.browser.click("#live");
        page.wait_for_answers(1);
        page
    }

    /// Presses a button, and waits until the answer is shown. Returns what the plugin decided.
    fn press(&self, button: &str) -> String {
        let shown = self.answers();
        self.browser.click(&format!("#{button}"));
        self.wait_for_answers(shown + 1);
        let row = self.row();
        assert_eq!(row[1].replace(' ', ""), button);
        row[3].clone()
    }

    fn answers(&self) -> u64 {
        self.browser.run("return answers;", &[]).as_u64().expect("a number")
    }

    fn wait_for_answers(&self, number: u64) {
        eventually("an answer", || (self.answers() >= number).then_some(()));
    }

    /// The newest request, as the table has it.
    fn row(&self) -> Vec<String> {
        let cells = self
            .browser
            .run("return [...document.querySelector('#trace tr').cells].map((cell) => cell.textContent);", &[]);
        cells.as_array().expect("cells").iter().map(|cell| cell.as_str().expect("text").to_owned()).collect()
    }

    fn host(&self) -> String {
        self.browser.text("#host")
    }

    fn session(&self) -> String {
        self.browser.text("#session")
    }

    /// What this CSS selector finds begins with one of these.
    fn assert_says(&self, selector: &str, beginnings: &[&str]) {
        let text = self.browser.text(selector);
        assert!(beginnings.iter().any(|beginning| text.starts_with(beginning)), "{selector}: {text}");
    }

    fn state_of(&self, host: &str) -> String {
        self.browser.text(&format!("#host-{host} span"))
    }

    /// Asks until another host than this one serves. Returns what the plugin decided then.
    fn leave(&self, host: &str) -> String {
        eventually("another host to serve", || {
            let decision = self.press("ask");
            (self.host() != host).then_some(decision)
        })
    }
}

#[test]
fn the_page_shows_the_session_and_its_buttons_do_what_they_say() {
    let mut demo = Demo::start();
    let page = Page::open(&demo.url("127.0.0.1"));
    let (home, session) = (page.host(), page.session());
    assert!(["a", "b", "c"].contains(&home.as_str()) && session.ends_with('…'), "{home} {session}");
    assert_eq!(page.press("ask"), "resumed");
    assert_eq!((page.host(), page.session()), (home.clone(), session.clone()));
    assert_eq!(page.browser.text("#requests"), "3 requests of this session");
    page.assert_says("#idle", &["in 30 min", "in 29 min"]);
    page.assert_says("#absolute", &["within 8 h", "within 7 h 59 min"]);
    assert_eq!(page.state_of(&home), "serves you");

    assert_eq!(page.press("login"), "rotated");
    assert_eq!(page.press("ask"), "resumed");
    assert_eq!(page.host(), home);
    assert_ne!(page.session(), session);

    assert_eq!(page.press("logout"), "ended");
    assert_eq!(page.session(), "none");
    assert_eq!(page.press("ask"), "created");
    page.assert_says("#absolute", &["in 8 h", "in 7 h 59 min"]);

    let drained = page.host();
    assert_eq!(page.press("drain"), "released");
    page.assert_says(&format!("#host-{drained} span"), &["serves you, drained, back in "]);
    page.leave(&drained);
    assert_eq!(page.press("ask"), "resumed");
    demo.wait_for(&drained);

    page.press("logout");
    page.press("ask");
    let (killed, session) = (page.host(), page.session());
    assert_eq!(page.press("kill"), "resumed");
    page.assert_says(&format!("#host-{killed} span"), &["serves you, killed, back in "]);
    demo.host(&killed).wait_for_end();
    assert_eq!(page.leave(&killed), "moved");
    assert_eq!(page.session(), session);
    assert_eq!(
        page.browser.text("#requests"),
        "1 request of this session",
        "the new host remembers what the old one did"
    );
    take_picture(&page);
    let moved = page.host();
    demo.host(&killed).restart();
    demo.wait_for(&killed);
    eventually("the page to count down", || page.state_of(&killed).is_empty().then_some(()));
    assert_eq!((page.press("ask"), page.host()), ("resumed".into(), moved.clone()));

    page.browser.click("#envoys a");
    page.wait_for_answers(1);
    assert_eq!((page.host(), page.session()), (moved, session), "through the other Envoy");
    assert_eq!(page.browser.console(), [""; 0]);
}

#[test]
fn the_page_asks_by_itself() {
    let demo = Demo::start();
    let page = Page::open(&demo.url("localhost"));
    page.browser.click("#live");
    page.wait_for_answers(2);
    assert_eq!(page.row()[3], "resumed");
}

#[test]
fn the_page_says_so_where_the_browser_does_not_send_the_cookie() {
    let demo = Demo::start();
    let page = Page::open(&demo.url("127.0.0.1"));
    page.press("ask");
    assert_eq!(page.browser.text("#hint"), "");
    let page = Page::open(&demo.url(APP));
    assert_eq!(page.press("ask"), "created");
    assert!(page.browser.text("#hint").starts_with("Your browser does not send the cookie back"));
}

/// As axe-core judges, in both colour schemes and on a small screen.
#[test]
fn the_page_is_for_everybody() {
    let demo = Demo::start();
    let page = Page::open(&demo.url("127.0.0.1"));
    page.press("drain");
    page.leave(&page.host());
    let axe = std::fs::read_to_string(node_packages().join("node_modules/axe-core/axe.min.js")).expect("axe-core");
    for (scheme, width) in [("light", 1280), ("dark", 1280), ("light", 320), ("dark", 320)] {
        page.browser.emulate(scheme, width, 800);
        let overflow = page
            .browser
            .run("return document.documentElement.scrollWidth - document.documentElement.clientWidth;", &[]);
        assert_eq!(overflow, 0, "pixels beyond the screen's {width}");
        let body = format!("{axe}; return (await axe.run()).violations.map(({{id, nodes}}) => [id, nodes[0].html]);");
        let violations: Value = page.browser.run(&body, &[]);
        assert_eq!(violations, json!([]), "{scheme}, {width}");
    }
}

/// Where to save a picture of the page.
fn picture_wanted() -> Option<PathBuf> {
    #[allow(clippy::disallowed_methods)]
    let path = std::env::var("MOORING_PICTURE").ok()?;
    Some(root().join(path))
}

/// Takes the picture, if one is wanted.
fn take_picture(page: &Page) {
    let Some(path) = picture_wanted() else { return };
    page.browser.emulate("light", 960, 1060);
    page.browser.click("#live");
    page.browser.run("scrollTo(0, 0);", &[]);
    std::fs::write(path, page.browser.picture()).expect("a file");
    page.browser.click("#live");
}
