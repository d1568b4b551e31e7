//! Redis: one server, a Cluster, and a primary that Sentinels watch.

use super::certs::Certificates;
use super::{Process, eventually, free_port, tool};
use redis::{Commands as _, FromRedisValue, RedisResult};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::LazyLock;
use std::time::Duration;
use tempfile::TempDir;

static PROGRAM: LazyLock<PathBuf> = LazyLock::new(|| tool("MOORING_REDIS_SERVER", "redis-server"));

/// A running Redis.
pub struct Redis {
    process: Process,
    folder: TempDir,
    arguments: Vec<String>,
    password: Option<String>,
    /// Where it listens without TLS.
    pub port: u16,
    /// Where it listens with TLS, if it does.
    pub tls_port: Option<u16>,
}

impl Redis {
    /// Starts one without persistence.
    pub fn start() -> Self {
        Self::with(&[])
    }

    /// Starts one with more options, as in `["--maxmemory", "10mb"]`.
    pub fn with(options: &[&str]) -> Self {
        Self::on_free_ports(None, None, options)
    }

    /// Starts one that wants this password.
    pub fn with_password(password: &str) -> Self {
        Self::on_free_ports(None, Some(password), &["--requirepass", password, "--masterauth", password])
    }

    /// Starts one that speaks TLS, and wants this password and a certificate of the client's.
    pub fn with_tls(certificates: &Certificates, password: &str) -> Self {
        Self::on_free_ports(Some(certificates), Some(password), &["--requirepass", password])
    }

    fn on_free_ports(certificates: Option<&Certificates>, password: Option<&str>, options: &[&str]) -> Self {
        eventually("a Redis on free ports", || {
            let port = free_port();
            let tls_port = certificates.map(|_| free_port());
            let mut arguments: Vec<String> = options.iter().map(|&option| option.to_owned()).collect();
            if let (Some(certificates), Some(tls_port)) = (certificates, tls_port) {
                let files = [("cert", "server.pem"), ("key", "server.key"), ("ca-cert", "ca.pem")];
                let files = files.map(|(option, file)| [format!("--tls-{option}-file"), certificates.path(file)]);
                arguments.extend(files.into_iter().flatten());
                arguments.extend(["--tls-port".to_owned(), tls_port.to_string()]);
            }
            Self::launch(port, tls_port, password.map(str::to_owned), arguments)
        })
    }

    /// `None` when the port was taken meanwhile.
    fn launch(port: u16, tls_port: Option<u16>, password: Option<String>, arguments: Vec<String>) -> Option<Self> {
        let folder = tempfile::tempdir().expect("a folder");
        let process = spawn(port, &folder, &arguments);
        let mut redis = Self { process, folder, arguments, password, port, tls_port };
        redis.answers().then_some(redis)
    }

    /// Waits until it answers; false when it ends instead.
    fn answers(&mut self) -> bool {
        eventually("Redis to answer", || {
            if self.process.ended().is_some() {
                return Some(false);
            }
            self.ask::<String>(&["PING"]).ok().map(|_| true)
        })
    }

    /// Its URL, with the password.
    pub fn url(&self) -> String {
        let password = self.password.as_ref().map(|password| format!(":{password}@")).unwrap_or_default();
        match self.tls_port {
            Some(port) => format!("rediss://{password}127.0.0.1:{port}"),
            None => format!("redis://{password}127.0.0.1:{}", self.port),
        }
    }

    /// Has a command done, over a connection of its own.
    pub fn ask<T: FromRedisValue>(&self, command: &[&str]) -> RedisResult<T> {
        let password = self.password.as_ref().map(|password| format!(":{password}@")).unwrap_or_default();
        let client = redis::Client::open(format!("redis://{password}127.0.0.1:{}", self.port))?;
        let mut connection = client.get_connection_with_timeout(Duration::from_secs(2))?;
        connection.set_read_timeout(Some(Duration::from_secs(2)))?;
        let (name, arguments) = command.split_first().expect("a command");
        redis::cmd(name).arg(arguments).query(&mut connection)
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.process.0.id()
    }

    /// Ends it at once, as `kill -9` does.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Stops it without ending it: connections stay open, nothing is answered.
    pub fn pause(&self) {
        self.process.pause();
    }

    /// Lets it go on.
    pub fn resume(&self) {
        self.process.signal("CONT");
    }

    /// Starts it again on the port that it had, empty.
    pub fn restart(&mut self) {
        self.process.kill();
        self.process = spawn(self.port, &self.folder, &self.arguments);
        assert!(self.answers(), "Redis does not start again:\n{}", self.log());
    }

    /// Its log so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }
}

fn spawn(port: u16, folder: &TempDir, arguments: &[String]) -> Process {
    let mut command = Command::new(&*PROGRAM);
    command
        .current_dir(folder.path())
        .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--logfile", "log"])
        .args(arguments);
    Process::spawn(command.stdout(Stdio::null()).stderr(Stdio::null()))
}

/// A Redis Cluster.
pub struct RedisCluster {
    /// The servers: three primaries, and then perhaps a replica of each.
    pub nodes: Vec<Redis>,
}

const SLOTS: u16 = 16384;

impl RedisCluster {
    /// Three primaries, which together have all slots.
    pub fn start() -> Self {
        Self::of(3)
    }

    /// Three primaries with a replica each.
    pub fn with_replicas() -> Self {
        Self::of(6)
    }

    fn of(size: usize) -> Self {
        let nodes: Vec<Redis> = (0..size).map(|_| cluster_node()).collect();
        let (primaries, replicas) = nodes.split_at(3);
        let ranges = [0..SLOTS / 3, SLOTS / 3..SLOTS / 3 * 2, SLOTS / 3 * 2..SLOTS];
        for (epoch, (primary, slots)) in primaries.iter().zip(ranges).enumerate() {
            let slots: Vec<String> = slots.map(|slot| slot.to_string()).collect();
            let command: Vec<&str> =
                ["CLUSTER", "ADDSLOTS"].into_iter().chain(slots.iter().map(String::as_str)).collect();
            primary.ask::<()>(&command).expect("slots");
            primary.ask::<()>(&["CLUSTER", "SET-CONFIG-EPOCH", &(epoch + 1).to_string()]).expect("an epoch");
        }
        for node in nodes.iter().skip(1) {
            nodes[0].ask::<()>(&["CLUSTER", "MEET", "127.0.0.1", &node.port.to_string()]).expect("a meeting");
        }
        for (replica, primary) in replicas.iter().zip(primaries) {
            let id: String = primary.ask(&["CLUSTER", "MYID"]).expect("an id");
            eventually("a replica to know its primary", || replica.ask::<()>(&["CLUSTER", "REPLICATE", &id]).ok());
        }
        let cluster = Self { nodes };
        cluster.wait_until_ok();
        for (primary, _) in cluster.nodes.iter().zip(cluster.nodes.iter().skip(3)) {
            eventually("a replica to be in step", || {
                let told: String = primary.ask(&["INFO", "replication"]).ok()?;
                told.contains("state=online").then_some(())
            });
        }
        cluster
    }

    /// Waits until every node says that the cluster is whole.
    pub fn wait_until_ok(&self) {
        let (ok, known) = ("cluster_state:ok", format!("cluster_known_nodes:{}\r", self.nodes.len()));
        for node in &self.nodes {
            eventually("the cluster to be whole", || {
                let state: String = node.ask(&["CLUSTER", "INFO"]).ok()?;
                (state.contains(ok) && state.contains(&known)).then_some(())
            });
        }
    }

    /// The nodes' URLs.
    pub fn urls(&self) -> Vec<String> {
        self.nodes.iter().map(Redis::url).collect()
    }

    /// Has a command with this key done, by the node that has it.
    pub fn ask<T: FromRedisValue>(&self, key: &str, command: &[&str]) -> RedisResult<T> {
        let client = redis::Client::open(self.nodes[self.primary_of(key)].url())?;
        let mut connection = client.get_connection_with_timeout(Duration::from_secs(2))?;
        let (name, arguments) = command.split_first().expect("a command");
        redis::cmd(name).arg(arguments).query(&mut connection)
    }

    /// Which of the nodes has this key.
    pub fn primary_of(&self, key: &str) -> usize {
        eventually("a node that has the key", || {
            self.nodes.iter().position(|node| {
                let Ok(client) = redis::Client::open(node.url()) else { return false };
                let Ok(mut connection) = client.get_connection_with_timeout(Duration::from_secs(1)) else {
                    return false;
                };
                // A replica and a node that does not have the slot answer MOVED.
                connection.exists::<_, bool>(key).is_ok()
            })
        })
    }

    /// Kills the node that has this key, and says which it was.
    pub fn kill_primary_of(&mut self, key: &str) -> usize {
        let primary = self.primary_of(key);
        self.nodes[primary].kill();
        primary
    }
}

fn cluster_node() -> Redis {
    // A primary that is silent for a second is replaced, and the slots of the others are served meanwhile.
    let options = [
        "--cluster-enabled",
        "yes",
        "--cluster-config-file",
        "nodes.conf",
        "--cluster-node-timeout",
        "1000",
        "--cluster-require-full-coverage",
        "no",
        "--cluster-replica-validity-factor",
        "0",
        "--repl-diskless-sync-delay",
        "0",
    ];
    eventually("a node on free ports", || {
        // The nodes talk to each other on this port too.
        let port = Some(free_port()).filter(|port| *port < 55_000)?;
        std::net::TcpListener::bind(("127.0.0.1", port + 10_000)).ok()?;
        Redis::launch(port, None, None, options.map(str::to_owned).to_vec())
    })
}

/// A primary and a replica, watched by three Sentinels.
pub struct Sentinels {
    /// The servers; at first the first is the primary.
    pub servers: [Redis; 2],
    sentinels: Vec<Sentinel>,
}

struct Sentinel {
    process: Process,
    _folder: TempDir,
    port: u16,
}

impl Sentinels {
    /// What the Sentinels call the primary.
    pub const NAME: &str = "sessions";

    /// Starts them; a primary that is silent for half a second is replaced.
    pub fn start() -> Self {
        Self::with_password(None)
    }

    /// As [`Self::start`], with servers that want a password. The Sentinels themselves want none.
    pub fn with_password(password: Option<&str>) -> Self {
        let server = || {
            let mut options = vec!["--repl-diskless-sync-delay", "0", "--repl-diskless-load", "swapdb"];
            if let Some(password) = password {
                options.extend(["--requirepass", password, "--masterauth", password]);
            }
            Redis::on_free_ports(None, password, &options)
        };
        let servers = [server(), server()];
        servers[1].ask::<()>(&["REPLICAOF", "127.0.0.1", &servers[0].port.to_string()]).expect("a replica");
        eventually("the replica to be in step", || {
            let told: String = servers[0].ask(&["INFO", "replication"]).ok()?;
            told.contains("state=online").then_some(())
        });
        let sentinels = (0..3).map(|_| sentinel(servers[0].port, password)).collect();
        let sentinels = Self { servers, sentinels };
        eventually("the Sentinels to know each other and the replica", || {
            sentinels.sentinels.iter().all(|sentinel| sentinel.knows_all()).then_some(())
        });
        sentinels
    }

    /// The Sentinels' URLs.
    pub fn urls(&self) -> Vec<String> {
        self.sentinels.iter().map(|sentinel| format!("redis://127.0.0.1:{}", sentinel.port)).collect()
    }

    /// Which of the servers is the primary, as the first Sentinel knows it.
    pub fn primary(&self) -> usize {
        let told: Vec<String> =
            self.sentinels[0].ask(&["SENTINEL", "GET-MASTER-ADDR-BY-NAME", Self::NAME]).expect("a primary");
        let port = told[1].parse().ok();
        self.servers.iter().position(|server| Some(server.port) == port).expect("one of the servers")
    }

    /// Waits until this server is the primary and takes writes.
    pub fn wait_for_primary(&self, server: usize) {
        eventually("a failover", || {
            let role: redis::Value = self.servers[server].ask(&["ROLE"]).ok()?;
            (self.primary() == server && format!("{role:?}").contains("master")).then_some(())
        });
    }
}

impl Sentinel {
    fn ask<T: FromRedisValue>(&self, command: &[&str]) -> RedisResult<T> {
        let client = redis::Client::open(format!("redis://127.0.0.1:{}", self.port))?;
        let mut connection = client.get_connection_with_timeout(Duration::from_secs(2))?;
        let (name, arguments) = command.split_first().expect("a command");
        redis::cmd(name).arg(arguments).query(&mut connection)
    }

    fn knows_all(&self) -> bool {
        let told: RedisResult<Vec<String>> = self.ask(&["SENTINEL", "MASTER", Sentinels::NAME]);
        let told = told.unwrap_or_default();
        let of = |name: &str| told.iter().skip_while(|field| *field != name).nth(1).map(String::as_str);
        of("num-slaves") == Some("1") && of("num-other-sentinels") == Some("2") && of("flags") == Some("master")
    }
}

fn sentinel(primary: u16, password: Option<&str>) -> Sentinel {
    eventually("a Sentinel on a free port", || {
        let (folder, port, name) = (tempfile::tempdir().expect("a folder"), free_port(), Sentinels::NAME);
        let config = folder.path().join("sentinel.conf");
        let mut lines = format!(
            "port {port}\nbind 127.0.0.1\nlogfile log\nsentinel monitor {name} 127.0.0.1 {primary} 2\n\
             sentinel down-after-milliseconds {name} 500\nsentinel failover-timeout {name} 3000\n"
        );
        if let Some(password) = password {
            lines.push_str(&format!("sentinel auth-pass {name} {password}\n"));
        }
        std::fs::write(&config, lines).expect("a file");
        let mut command = Command::new(&*PROGRAM);
        command.current_dir(folder.path()).arg(&config).arg("--sentinel");
        let process = Process::spawn(command.stdout(Stdio::null()).stderr(Stdio::null()));
        let mut sentinel = Sentinel { process, _folder: folder, port };
        let answers = eventually("a Sentinel to answer", || {
            if sentinel.process.ended().is_some() {
                return Some(false);
            }
            sentinel.ask::<String>(&["PING"]).ok().map(|_| true)
        });
        answers.then_some(sentinel)
    })
}
