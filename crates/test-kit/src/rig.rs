//! A real Envoy with the built plugin, on free ports of 127.0.0.1, and real upstream hosts behind it.
//!
//! The config is one of those under `envoy/`, as people copy it. What is changed of it: addresses, the plugin's path and its
//! configuration; the cluster `other` and the routes to it are added; health checks come faster; and the listener is read from a
//! file of its own, so that a test can change it while Envoy runs.

pub use crate::servers::eventually;
use crate::servers::{root, tool};
use crate::upstream::Upstream;
use crate::world::{Bridge, HostState, Request, Response, Setup, World, is_counted};
use reqwest::blocking::Client;
use serde_json::{Value, json};
use std::cell::OnceCell;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use tempfile::TempDir;

const WAIT: Duration = Duration::from_secs(20);

/// The built plugin.
pub fn plugin_path() -> PathBuf {
    #[allow(clippy::disallowed_methods)]
    let path = std::env::var("MOORING_WASM").unwrap_or_else(|_| "dist/mooring.wasm".into());
    let path = root().join(path);
    assert!(path.exists(), "{} is missing: run make wasm", path.display());
    path
}

fn envoy_command() -> Command {
    let mut command = Command::new(tool("MOORING_ENVOY", "envoy"));
    command.current_dir(root()).stdin(Stdio::null());
    command
}

/// Starts an Envoy that refuses its bootstrap, and returns what it says.
pub fn start_in_vain(bootstrap: &Value) -> String {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("bootstrap.json");
    std::fs::write(&path, bootstrap.to_string()).expect("a file");
    let output = envoy_command().arg("--disable-hot-restart").arg("-c").arg(&path).output().expect("Envoy");
    assert!(!output.status.success(), "Envoy ended well");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// How an Envoy is started, beyond what is the same for all.
#[derive(Clone, Debug, Default)]
pub struct Launch {
    /// Of its command line.
    pub arguments: Vec<String>,
    /// Variables of its environment.
    pub environment: Vec<(String, String)>,
    /// Whether a successor may take over from it ([`Envoy::hot_restart`]). For that it keeps a file in shared memory.
    pub restartable: bool,
}

impl Launch {
    /// With these further arguments.
    pub fn with(arguments: &[&str]) -> Self {
        let arguments = arguments.iter().map(|&argument| argument.to_owned()).collect();
        Self { arguments, ..Self::default() }
    }

    /// One from which a successor may take over.
    pub fn restartable(self) -> Self {
        Self { restartable: true, ..self }
    }

    fn after<S: ToString>(&self, arguments: &[S]) -> Self {
        let first = arguments.iter().map(S::to_string);
        Self { arguments: first.chain(self.arguments.iter().cloned()).collect(), ..self.clone() }
    }
}

/// A running Envoy.
pub struct Envoy {
    process: Child,
    folder: TempDir,
    client: Client,
    admin: String,
    /// Where a successor may take over.
    succession: Option<Succession>,
    /// Where it listens, for instance `127.0.0.1:40123`.
    pub address: String,
}

impl Envoy {
    /// Starts Envoy with a bootstrap whose listeners are in `static_resources`.
    pub fn start(bootstrap: Value, launch: &Launch) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        write_bootstrap(folder.path(), bootstrap);
        let succession = launch.restartable.then(Succession::begin);
        let process = match &succession {
            Some(succession) => spawn(folder.path(), &launch.after(&succession.arguments())),
            None => spawn(folder.path(), &launch.after(&["--disable-hot-restart"])),
        };
        let client = Client::builder().no_proxy().timeout(WAIT).build().expect("a client");
        let mut envoy = Self { process, folder, client, admin: String::new(), address: String::new(), succession };
        envoy.find_admin();
        envoy.find_listener();
        envoy
    }

    /// Starts a successor that takes over the listeners and the counts. Returns when it is live; the process before it still serves the
    /// connections that it has, for as long as `--parent-shutdown-time-s` says, and is returned.
    pub fn hot_restart(&mut self, bootstrap: Value, launch: &Launch) -> Child {
        let succession = self.succession.as_mut().expect("a launch that is restartable");
        succession.epoch += 1;
        write_bootstrap(self.folder.path(), bootstrap);
        std::fs::remove_file(self.folder.path().join("admin")).expect("the admin address");
        let successor = spawn(self.folder.path(), &launch.after(&succession.arguments()));
        let parent = std::mem::replace(&mut self.process, successor);
        self.find_admin();
        self.find_listener();
        parent
    }

    fn find_admin(&mut self) {
        self.admin = eventually("Envoy's admin address", || {
            self.assert_running();
            std::fs::read_to_string(self.folder.path().join("admin")).ok().filter(|address| address.contains(':'))
        });
    }

    /// It is still the process that was started.
    pub fn assert_running(&mut self) {
        if let Ok(Some(status)) = self.process.try_wait() {
            panic!("Envoy ended with {status}:\n{}", self.log());
        }
    }

    /// Of the process.
    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Envoy's log so far.
    pub fn log(&self) -> String {
        // It may hold bytes of a client's.
        String::from_utf8_lossy(&std::fs::read(self.folder.path().join("log")).unwrap_or_default()).into_owned()
    }

    /// Where the admin interface listens.
    pub fn admin_address(&self) -> &str {
        &self.admin
    }

    /// Asks the admin interface; `None` while it does not answer.
    pub fn admin(&self, path: &str) -> Option<String> {
        self.client.get(format!("http://{}{path}", self.admin)).send().ok()?.text().ok()
    }

    fn find_listener(&mut self) {
        self.address = eventually("Envoy's listener", || {
            self.assert_running();
            (self.admin("/ready")?.trim() == "LIVE").then_some(())?;
            let listeners: Value = serde_json::from_str(&self.admin("/listeners?format=json")?).ok()?;
            let address = &listeners["listener_statuses"][0]["local_address"]["socket_address"];
            let port = address["port_value"].as_u64().filter(|port| *port > 0)?;
            Some(format!("127.0.0.1:{port}"))
        });
    }

    /// A stat, over all values of labels that are not named; 0 where there is none.
    pub fn stat(&self, name: &str) -> u64 {
        let stats = self.admin("/stats").unwrap_or_default();
        let stats = stats.lines().filter_map(|line| line.split_once(": "));
        stats.filter(|(stat, _)| is_counted(stat, name)).filter_map(|(_, value)| value.parse::<u64>().ok()).sum()
    }

    /// Ends it at once, as `kill -9` does.
    pub fn kill(&mut self) {
        self.process.kill().expect("a process");
        self.process.wait().expect("a process");
    }

    /// Puts other listeners in force. `false` when Envoy refuses them.
    pub fn reload(&mut self, listeners: &Value) -> bool {
        let of = |outcome| format!("listener_manager.lds.update_{outcome}");
        let (done, refused) = (self.stat(&of("success")), self.stat(&of("rejected")));
        write_listeners(self.folder.path(), listeners);
        let accepted = eventually("Envoy to read the listeners", || {
            let rejected = self.stat(&of("rejected")) > refused;
            (rejected || self.stat(&of("success")) > done).then_some(!rejected)
        });
        eventually("no listener to be warming", || {
            (self.stat("listener_manager.total_listeners_warming") == 0).then_some(())
        });
        self.find_listener();
        accepted
    }
}

impl Drop for Envoy {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("Envoy's log:\n{}", self.log());
        }
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// What an Envoy and its successors share.
struct Succession {
    base: u32,
    epoch: u32,
}

impl Succession {
    fn begin() -> Self {
        static BEGUN: AtomicU32 = AtomicU32::new(0);
        Self::sweep();
        let nth = BEGUN.fetch_add(1, Ordering::Relaxed) % BASES_EACH;
        Self { base: FIRST_BASE + std::process::id() * BASES_EACH + nth, epoch: 0 }
    }

    /// Removes what runs left that were killed.
    fn sweep() {
        for file in std::fs::read_dir(SHARED_MEMORY).into_iter().flatten().flatten() {
            let owner = file.file_name().to_str().and_then(owner_of);
            if owner.is_some_and(|owner| !Path::new("/proc").join(owner.to_string()).exists()) {
                let _ = std::fs::remove_file(file.path());
            }
        }
    }

    fn arguments(&self) -> [String; 4] {
        ["--base-id".into(), self.base.to_string(), "--restart-epoch".into(), self.epoch.to_string()]
    }
}

impl Drop for Succession {
    fn drop(&mut self) {
        let _ =
            std::fs::remove_file(Path::new(SHARED_MEMORY).join(format!("{FILE_PREFIX}{}", u64::from(self.base) * 10)));
    }
}

const SHARED_MEMORY: &str = "/dev/shm";

/// Behind it comes the tenfold of the base id.
const FILE_PREFIX: &str = "envoy_shared_memory_";

/// Base ids are a 3, the seven digits of the process id of the tests, and one more; scripts/test knows them by that. Those that Envoy
/// picks by itself are smaller.
const FIRST_BASE: u32 = 300_000_000;
const BASES_EACH: u32 = 10;

/// The process of the tests that made this file; none for files of others.
fn owner_of(file: &str) -> Option<u32> {
    let base = file.strip_prefix(FILE_PREFIX)?.parse::<u32>().ok()? / 10;
    let owner = base.checked_sub(FIRST_BASE)? / BASES_EACH;
    (owner < 10_000_000).then_some(owner)
}

fn spawn(folder: &Path, launch: &Launch) -> Child {
    let mut command = envoy_command();
    for (option, file) in
        [("--config-path", "bootstrap.json"), ("--admin-address-path", "admin"), ("--log-path", "log")]
    {
        command.arg(option).arg(folder.join(file));
    }
    command.args(["--log-level", "warning"]);
    if !launch.arguments.iter().any(|argument| argument == "--component-log-level") {
        command.args(["--component-log-level", "wasm:info"]);
    }
    // Its log is there when a test reads it, not up to ten seconds later.
    command.args(["--file-flush-interval-msec", "100"]);
    command.args(&launch.arguments).envs(launch.environment.iter().cloned());
    command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("Envoy")
}

/// Writes the bootstrap, and its listeners into a file of their own.
fn write_bootstrap(folder: &Path, mut bootstrap: Value) {
    let listeners = bootstrap["static_resources"].as_object_mut().and_then(|all| all.remove("listeners"));
    bootstrap["dynamic_resources"] = json!({"lds_config": {"resource_api_version": "V3", "path_config_source":
        {"path": folder.join("lds.json"), "watched_directory": {"path": folder}}}});
    if bootstrap["node"].is_null() {
        bootstrap["node"] = json!({"id": "test", "cluster": "test"});
    }
    write_listeners(folder, &listeners.expect("listeners"));
    std::fs::write(folder.join("bootstrap.json"), bootstrap.to_string()).expect("a file");
}

fn write_listeners(folder: &Path, listeners: &Value) {
    let typed = listeners.as_array().into_iter().flatten().map(|listener| {
        let mut listener = listener.clone();
        listener["@type"] = "type.googleapis.com/envoy.config.listener.v3.Listener".into();
        listener
    });
    let typed: Vec<Value> = typed.collect();
    std::fs::write(folder.join("lds.new"), json!({"resources": typed}).to_string()).expect("a file");
    // Envoy watches for files that are moved in: it never sees half of one.
    std::fs::rename(folder.join("lds.new"), folder.join("lds.json")).expect("a file");
}

/// A config under `envoy/`.
pub fn shipped(file: &str) -> Value {
    let yaml = std::fs::read_to_string(root().join("envoy").join(file)).expect("a config");
    serde_norway::from_str(&yaml).expect("YAML")
}

/// Everything in a bootstrap that a test changes.
pub struct Bootstrap(pub Value);

impl Bootstrap {
    /// The shipped config for `bridge`, with these hosts.
    pub fn new(bridge: Bridge, app: &[&str], other: &[&str]) -> Self {
        let file = match bridge {
            Bridge::StatefulSession => "envoy.yaml",
            Bridge::Strict => "strict.yaml",
            Bridge::OverrideHost => "override-host.yaml",
        };
        Self::from_file(file, app, other)
    }

    /// This shipped config, with these hosts.
    pub fn from_file(file: &str, app: &[&str], other: &[&str]) -> Self {
        let mut bootstrap = Self(shipped(file));
        bootstrap.0["admin"]["address"]["socket_address"] = json!({"address": "127.0.0.1", "port_value": 0});
        bootstrap.listener()["address"]["socket_address"] = json!({"address": "127.0.0.1", "port_value": 0});
        bootstrap.wasm()["vm_config"]["code"]["local"]["filename"] = plugin_path().to_string_lossy().as_ref().into();
        bootstrap.wasm()["vm_config"].as_object_mut().expect("a VM").remove("environment_variables");
        let clusters = bootstrap.0["static_resources"]["clusters"].as_array_mut().expect("clusters");
        let template = clusters.iter().find(|cluster| cluster["name"] == "app").expect("the cluster app").clone();
        clusters.retain(|cluster| cluster["name"] != "app");
        clusters.push(with_hosts(template.clone(), "app", app));
        clusters.push(with_hosts(template, "other", other));
        bootstrap.add_routes();
        bootstrap
    }

    /// Its listener.
    pub fn listener(&mut self) -> &mut Value {
        &mut self.0["static_resources"]["listeners"][0]
    }

    /// The HTTP connection manager.
    pub fn http(&mut self) -> &mut Value {
        &mut self.listener()["filter_chains"][0]["filters"][0]["typed_config"]
    }

    /// The plugin's `PluginConfig`.
    pub fn wasm(&mut self) -> &mut Value {
        let filters = self.http()["http_filters"].as_array_mut().expect("filters");
        let wasm = filters.iter_mut().find(|filter| !filter["typed_config"]["config"]["vm_config"].is_null());
        &mut wasm.expect("the plugin")["typed_config"]["config"]
    }

    /// Gives the plugin this configuration.
    pub fn set_plugin(&mut self, plugin: &Value) {
        self.wasm()["configuration"] =
            json!({"@type": "type.googleapis.com/google.protobuf.StringValue", "value": plugin.to_string()});
    }

    /// A cluster of the shipped config's.
    pub fn cluster(&mut self, name: &str) -> &mut Value {
        let clusters = self.0["static_resources"]["clusters"].as_array_mut().expect("clusters");
        clusters.iter_mut().find(|cluster| cluster["name"] == name).expect("a cluster of this name")
    }

    /// Without Envoy's own judgement of the hosts: where those share a busy machine with the test, they answer a health check late.
    pub fn trust_hosts(&mut self) {
        for name in ["app", "other"] {
            let cluster = self.cluster(name).as_object_mut().expect("a cluster");
            cluster.remove("health_checks");
            cluster.remove("outlier_detection");
        }
    }

    /// Lets trailers pass on HTTP/1.1, in both directions.
    pub fn enable_trailers(&mut self) {
        self.http()["http_protocol_options"]["enable_trailers"] = true.into();
        let clusters = self.0["static_resources"]["clusters"].as_array_mut().expect("clusters");
        for cluster in clusters {
            speak(cluster, json!({"http_protocol_options": {"enable_trailers": true}}));
        }
    }

    /// Lets Envoy speak HTTP/2 to a cluster's hosts, with these options.
    pub fn speak_http2(&mut self, cluster: &str, options: Value) {
        speak(self.cluster(cluster), json!({"http2_protocol_options": options}));
    }

    /// The routes of its virtual host.
    pub fn routes(&mut self) -> &mut Vec<Value> {
        self.http()["route_config"]["virtual_hosts"][0]["routes"].as_array_mut().expect("routes")
    }

    /// A route like the shipped one for `path`, with `action` merged into what it does.
    pub fn route(&mut self, path: &str, action: Value) -> Value {
        let mut route = self.routes().last().expect("a route").clone();
        route["match"] = json!({"prefix": path});
        let target = route["route"].as_object_mut().expect("an action");
        if let Value::Object(action) = action {
            if !action.get("weighted_clusters").is_none_or(Value::is_null) {
                target.remove("cluster");
            }
            target.extend(action);
        }
        route
    }

    fn add_routes(&mut self) {
        let weighted = json!({"clusters": [{"name": "app", "weight": 50}, {"name": "other", "weight": 50}]});
        let added = [
            self.route("/other", json!({"cluster": "other"})),
            self.route("/weighted", json!({"weighted_clusters": weighted})),
            json!({"match": {"prefix": "/local"}, "direct_response": {"status": 200, "body": {"inline_string": "local"}}}),
        ];
        self.routes().splice(0..0, added);
    }
}

fn speak(cluster: &mut Value, config: Value) {
    cluster["typed_extension_protocol_options"] = json!({"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
        "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
        "explicit_http_config": config}});
}

/// The cluster with this name, these hosts, and health checks that come faster.
pub fn with_hosts(mut cluster: Value, name: &str, hosts: &[&str]) -> Value {
    let endpoint = |address: &&str| {
        let (ip, port) = address.rsplit_once(':').expect("an address");
        let port: u16 = port.parse().expect("a port");
        let ip = ip.trim_start_matches('[').trim_end_matches(']');
        json!({"endpoint": {"address": {"socket_address": {"address": ip, "port_value": port}}}})
    };
    let endpoints: Vec<Value> = hosts.iter().map(endpoint).collect();
    cluster["name"] = name.into();
    cluster["load_assignment"] = json!({"cluster_name": name, "endpoints": [{"lb_endpoints": endpoints}]});
    for check in cluster["health_checks"].as_array_mut().into_iter().flatten() {
        for interval in ["interval", "no_traffic_interval", "unhealthy_interval", "no_traffic_healthy_interval"] {
            check[interval] = "0.1s".into();
        }
    }
    // Workers would otherwise hear of a host's health up to a second later than the admin interface says.
    cluster["common_lb_config"]["update_merge_window"] = "0s".into();
    cluster
}

/// The world of the scenarios, for real.
pub struct EnvoyWorld {
    /// The hosts behind it, if they are its own.
    pub hosts: Vec<Upstream>,
    /// What it was started with.
    pub bootstrap: Bootstrap,
    /// The process.
    pub envoy: Envoy,
    launch: Launch,
    client: OnceCell<Client>,
    /// Requests since Envoy started.
    sent: u64,
}

/// Two workers, so that every scenario meets both.
const WORKERS: u32 = 2;

/// The upstream hosts, on free ports of `address`: the cluster `app` has the first three, `other` the rest.
pub fn start_hosts(address: &str) -> Vec<Upstream> {
    ["a", "b", "c", "d", "e"].into_iter().map(|name| Upstream::start(name, address)).collect()
}

impl EnvoyWorld {
    /// Starts Envoy with a config that `adjust` has changed.
    pub fn adjusted(setup: &Setup, adjust: impl FnOnce(&mut Bootstrap)) -> Self {
        Self::launch("127.0.0.1:0", setup, adjust)
    }

    /// As [`Self::adjusted`], with upstream hosts on free ports of `address`.
    pub fn launch(address: &str, setup: &Setup, adjust: impl FnOnce(&mut Bootstrap)) -> Self {
        let hosts = start_hosts(address);
        let addresses: Vec<&str> = hosts.iter().map(|host| host.address.as_str()).collect();
        let (app, other) = addresses.split_at(3);
        let mut bootstrap = Bootstrap::new(setup.bridge, app, other);
        bootstrap.set_plugin(&setup.plugin);
        adjust(&mut bootstrap);
        let world = Self::run(bootstrap, hosts, WORKERS);
        world.hosts.iter().for_each(|host| world.wait_for_health(host, true));
        world
    }

    /// Starts Envoy with this config and so many workers. Worlds that share hosts leave them to one of them.
    pub fn run(bootstrap: Bootstrap, hosts: Vec<Upstream>, workers: u32) -> Self {
        Self::run_with(bootstrap, hosts, workers, &Launch::default())
    }

    /// As [`Self::run`], started so.
    pub fn run_with(bootstrap: Bootstrap, hosts: Vec<Upstream>, workers: u32, launch: &Launch) -> Self {
        let launch = launch.after(&["--concurrency", &workers.to_string()]);
        let envoy = Envoy::start(bootstrap.0.clone(), &launch);
        Self { hosts, bootstrap, envoy, launch, client: OnceCell::new(), sent: 0 }
    }

    /// The next start will listen where this one does.
    pub fn keep_port(&mut self) {
        let port: Option<u16> = self.envoy.address.rsplit_once(':').and_then(|(_, port)| port.parse().ok());
        self.bootstrap.listener()["address"]["socket_address"]["port_value"] = port.expect("a port").into();
    }

    /// Lets a successor take over from the running Envoy, as [`Envoy::hot_restart`] does.
    pub fn hot_restart(&mut self) -> Child {
        // The sockets are handed over by their address.
        self.keep_port();
        self.envoy.hot_restart(self.bootstrap.0.clone(), &self.launch)
    }

    /// Starts Envoy anew, with every call of the plugin's in its log.
    pub fn log_every_call(&mut self) {
        self.launch = self.launch.after(&["--component-log-level", "wasm:trace"]);
        self.restart();
    }

    /// No VM has stopped.
    pub fn assert_sound(&self) {
        let stats = self.envoy.admin("/stats?filter=wasm").expect("Envoy");
        let stat = |name: &str| {
            stats.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": ")?.parse::<u64>().ok())
        };
        for name in ["vm_reload_success", "vm_reload_failure", "vm_reload_backoff"] {
            assert_eq!(stat(&format!("wasm.mooring.{name}")).unwrap_or(0), 0, "{stats}");
        }
        let log = self.envoy.log();
        for word in ["panicked", "Uncaught", "RuntimeError"] {
            assert!(!log.contains(word), "{word} in the log:\n{log}");
        }
    }

    /// Where it serves this path.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.envoy.address)
    }

    /// A connection for each request, so that they meet every worker.
    fn client(&self) -> &Client {
        self.client.get_or_init(|| {
            let client = Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none());
            client.pool_max_idle_per_host(0).http1_only().timeout(WAIT).build().expect("a client")
        })
    }

    /// Sends a request with this client, and counts it.
    pub fn send_with(&mut self, client: &Client, request: &Request) -> Response {
        self.sent += 1;
        let mut builder = client.get(self.url(&request.path));
        for (name, value) in &request.headers {
            builder = builder.header(name.as_str(), value.as_slice());
        }
        let response = builder.send().expect("a response");
        let status = response.status().as_u16();
        let line = |(name, value): (&reqwest::header::HeaderName, &reqwest::header::HeaderValue)| {
            (name.to_string(), value.as_bytes().to_vec())
        };
        let headers: Vec<_> = response.headers().iter().map(line).collect();
        let body = response.bytes().expect("a body");
        let served_by = headers.iter().find(|(name, _)| name == "x-served-by");
        let served_by = served_by.map(|(_, value)| String::from_utf8_lossy(value).into_owned());
        let told: Value = serde_json::from_slice(&body).unwrap_or_default();
        let got = told["headers"].as_array().into_iter().flatten().map(|pair| {
            let text = |at: usize| pair[at].as_str().unwrap_or_default().to_owned();
            (text(0), text(1).into_bytes())
        });
        Response { status, served_by, upstream_got: got.collect(), headers }
    }

    /// Waits until Envoy has this host for healthy, or for the opposite.
    pub fn wait_for_health(&self, host: &Upstream, healthy: bool) {
        let line = format!("::{}::health_flags::", host.address);
        eventually("Envoy to see a host's health", || {
            let clusters = self.envoy.admin("/clusters")?;
            let flags =
                clusters.lines().find_map(|known| known.split_once(&line).map(|(_, flags)| flags.to_owned()))?;
            ((flags == "healthy") == healthy).then_some(())
        });
    }

    /// Waits until the plugin has counted every request. Each has one outcome; counts are handed over once a second.
    pub fn settle(&self) {
        eventually("the plugin's counts", || {
            let stats = self.envoy.admin("/stats?filter=mooring_sessions.outcome")?;
            let counts = stats.lines().filter_map(|line| line.rsplit_once(": ")?.1.parse::<u64>().ok());
            (counts.sum::<u64>() >= self.sent).then_some(())
        });
    }
}

impl World for EnvoyWorld {
    fn start(setup: Setup) -> Self {
        Self::adjusted(&setup, |_| ())
    }

    fn send(&mut self, request: &Request) -> Response {
        let client = self.client().clone();
        self.send_with(&client, request)
    }

    fn set_host(&mut self, name: &str, state: HostState) {
        let at = self.hosts.iter().position(|host| host.name == name).expect("a host");
        self.hosts[at].set(state);
        let host = &self.hosts[at];
        match state {
            HostState::Healthy => self.wait_for_health(host, true),
            HostState::Unhealthy => self.wait_for_health(host, false),
            HostState::Dead => {}
        }
    }

    fn pass(&mut self, seconds: u64) {
        std::thread::sleep(Duration::from_secs(seconds));
    }

    fn reconfigure(&mut self, plugin: Value) {
        self.bootstrap.set_plugin(&plugin);
        let listeners = self.bootstrap.0["static_resources"]["listeners"].clone();
        assert!(self.envoy.reload(&listeners), "{}", self.envoy.log());
    }

    fn restart(&mut self) {
        self.envoy = Envoy::start(self.bootstrap.0.clone(), &self.launch);
        self.sent = 0;
        self.hosts.iter().for_each(|host| self.wait_for_health(host, true));
    }

    fn counter(&mut self, name: &str) -> u64 {
        self.settle();
        self.envoy.stat(&format!("wasmcustom.{name}"))
    }
}
