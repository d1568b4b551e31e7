//! Chromium, without a window, driven by WebDriver.

use base64::Engine as _;
use mooring_test_kit::servers::chromedriver::Chromedriver;
use mooring_test_kit::servers::{certs::Certificates, tool};
use rcgen::{KeyPair, PublicKeyData as _};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;
use thirtyfour::common::capabilities::chromium::ChromiumLikeCapabilities as _;
use thirtyfour::common::log::LoggingPrefsLogLevel;
use thirtyfour::{By, ChromeCapabilities, Cookie, WebDriver};
use tokio::runtime::{Builder, Runtime};

/// A browser with a profile of its own. To it, every host `*.test` is 127.0.0.1, and there are no others.
pub struct Browser {
    runtime: Runtime,
    driver: WebDriver,
    _server: Chromedriver,
    /// What both leave goes with it.
    _folder: TempDir,
}

/// What it does with cookies of sites that the page in the window is not of. The numbers are Chromium's.
#[derive(Clone, Copy)]
pub enum ThirdPartyCookies {
    Allowed = 0,
    Blocked = 1,
}

impl Browser {
    /// Starts one that trusts the servers' certificate.
    pub fn start(certificates: &Certificates) -> Self {
        Self::with(certificates, ThirdPartyCookies::Blocked)
    }

    /// As [`Self::start`], with this setting of its user's.
    pub fn with(certificates: &Certificates, third_party: ThirdPartyCookies) -> Self {
        let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
        let folder = tempfile::tempdir().expect("a folder");
        let server = Chromedriver::start(folder.path());
        let mut options = ChromeCapabilities::new();
        options.set_binary(&tool("MOORING_CHROMIUM", "chromium").to_string_lossy()).expect("an option");
        options.set_browser_log_level(LoggingPrefsLogLevel::All).expect("an option");
        let key = format!("--ignore-certificate-errors-spki-list={}", hash_of_key(certificates));
        let own = [
            "--headless",
            "--no-sandbox", // It works neither for root nor in most containers; and what is opened here is ours.
            "--no-proxy-server",
            "--disable-dev-shm-usage", // In containers that is small.
            "--host-resolver-rules=MAP *.test 127.0.0.1, MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost",
            &key,
        ];
        own.iter().for_each(|argument| options.add_arg(argument).expect("an argument"));
        let preferences = json!({"profile": {"cookie_controls_mode": third_party as u8}});
        options.add_experimental_option("prefs", preferences).expect("an option");
        let driver = runtime.block_on(WebDriver::new(&server.url, options)).expect("a browser");
        Self { runtime, driver, _server: server, _folder: folder }
    }

    /// Goes to a URL, as if somebody had typed it.
    pub fn open(&self, url: &str) {
        self.runtime.block_on(self.driver.goto(url)).expect("a page");
    }

    /// Runs a function's body in the page, and returns what it returns, or what its promise comes to.
    pub fn run(&self, body: &str, arguments: &[Value]) -> Value {
        let script = format!(
            "const done = arguments[arguments.length - 1];
             (async (...args) => {{ {body} }})(...arguments).then(done, (error) => done({{thrown: String(error)}}));"
        );
        let returned = self.runtime.block_on(self.driver.execute_async(script, arguments.to_vec())).expect("a script");
        let value = returned.json().clone();
        assert!(value["thrown"].is_null(), "{body}: {value}");
        value
    }

    /// What the page's own `fetch` of this path or URL gets.
    pub fn fetch(&self, url: &str) -> Served {
        let body = "const response = await fetch(args[0], {credentials: 'include'});
            return {decision: response.headers.get('x-decision'), shown: await response.json()};";
        Served::from(self.run(body, &[url.into()]))
    }

    /// What the page shows, if that is what an upstream host says of a request.
    pub fn shown(&self) -> Served {
        let shown = self.run("return {shown: JSON.parse(document.querySelector('pre').textContent)};", &[]);
        Served::from(shown)
    }

    /// The cookies that a request for the page would have.
    pub fn cookies(&self) -> Vec<Cookie> {
        self.runtime.block_on(self.driver.get_all_cookies()).expect("cookies")
    }

    /// The cookie of this name.
    pub fn cookie(&self, name: &str) -> Option<Cookie> {
        self.cookies().into_iter().find(|cookie| cookie.name == name)
    }

    /// Goes into the first frame of the page.
    pub fn enter_frame(&self) {
        self.runtime.block_on(self.driver.enter_frame(0)).expect("a frame");
    }

    /// Clicks on what this CSS selector finds.
    pub fn click(&self, selector: &str) {
        let click = async { self.driver.find(By::Css(selector)).await?.click().await };
        self.runtime.block_on(click).unwrap_or_else(|error| panic!("{selector}: {error}"));
    }

    /// The text of what this CSS selector finds, as it is seen.
    pub fn text(&self, selector: &str) -> String {
        let text = async { self.driver.find(By::Css(selector)).await?.text().await };
        self.runtime.block_on(text).unwrap_or_else(|error| panic!("{selector}: {error}"))
    }

    /// What was said on the console since this was asked last.
    pub fn console(&self) -> Vec<String> {
        let log = self.runtime.block_on(self.driver.browser_log()).expect("the console's log");
        log.into_iter().map(|entry| format!("{} {}", entry.level, entry.message)).collect()
    }

    /// Has the page believe in such a screen, and that the user prefers this colour scheme.
    pub fn emulate(&self, scheme: &str, width: u32, height: u32) {
        let screen = json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600});
        let media = json!({"features": [{"name": "prefers-color-scheme", "value": scheme}]});
        for (command, parameters) in
            [("Emulation.setDeviceMetricsOverride", screen), ("Emulation.setEmulatedMedia", media)]
        {
            self.runtime.block_on(self.driver.cdp().send_raw(command, parameters)).expect("a command");
        }
    }

    /// A picture of what is in the window, as PNG.
    pub fn picture(&self) -> Vec<u8> {
        self.runtime.block_on(self.driver.screenshot_as_png()).expect("a picture")
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let gone = self.runtime.block_on(self.driver.clone().quit());
        assert!(gone.is_ok() || std::thread::panicking(), "the browser stays: {gone:?}");
    }
}

/// What an upstream host said of a request.
#[derive(Debug)]
pub struct Served {
    pub host: String,
    /// Where a page can read it.
    pub decision: String,
    /// The session's id, as the upstream got it.
    pub session: String,
    /// The cookies that the upstream got.
    pub cookies: Vec<String>,
}

impl From<Value> for Served {
    fn from(value: Value) -> Self {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let lines = value["shown"]["headers"].as_array().into_iter().flatten();
        let of =
            |name: &str| lines.clone().filter(|line| line[0] == name).map(|line| text(&line[1])).collect::<Vec<_>>();
        Self {
            host: text(&value["shown"]["name"]),
            decision: text(&value["decision"]),
            session: of("x-mooring-session").concat(),
            cookies: of("cookie"),
        }
    }
}

/// As Chromium wants it: SHA-256 of the public key's `SubjectPublicKeyInfo`, in base64.
fn hash_of_key(certificates: &Certificates) -> String {
    let pem = std::fs::read_to_string(certificates.file("server.key")).expect("a key");
    let key = KeyPair::from_pem(&pem).expect("a key");
    base64::engine::general_purpose::STANDARD.encode(Sha256::digest(key.subject_public_key_info()))
}
