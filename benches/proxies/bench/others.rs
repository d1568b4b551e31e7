//! Proxies that are no Envoys, each with one worker, connections kept alive on both sides, and no log.

use super::hosts::{Program, nginx};
use mooring_test_kit::servers::tool;

/// The cookie of NGINX's clients.
pub const HASHED_COOKIE: &str = "sid";

/// `cookie … insert indirect`: HAProxy names the host in a cookie of its own, which hosts do not see.
pub fn haproxy(hosts: &[u16]) -> Program {
    let servers: String =
        hosts.iter().enumerate().map(|(at, port)| format!("  server h{at} 127.0.0.1:{port} cookie h{at}\n")).collect();
    let config = |port| {
        format!(
            "\
global
  nbthread 1
  maxconn 4096
defaults
  mode http
  timeout connect 1s
  timeout client 1d
  timeout server 1d
  timeout http-keep-alive 1d
frontend http
  bind 127.0.0.1:{port}
  default_backend app
backend app
  balance roundrobin
  cookie sid insert indirect nocache httponly
  option httpchk GET /health
  default-server check inter 1s
  http-reuse always
{servers}"
        )
    };
    Program::start(
        tool("MOORING_HAPROXY", "haproxy"),
        |port, _| config(port),
        |command, config, _| {
            command.arg("-db").arg("-f").arg(config);
        },
    )
}

/// `hash … consistent`: NGINX hashes the value of a cookie that the application sets.
pub fn hashing_nginx(hosts: &[u16]) -> Program {
    let servers: String = hosts.iter().map(|port| format!("server 127.0.0.1:{port};\n")).collect();
    nginx(|port| {
        format!(
            "\
upstream app {{
hash $cookie_{HASHED_COOKIE} consistent;
{servers}keepalive 64;
keepalive_timeout 1d;
keepalive_requests 1000000000;
}}
server {{
listen 127.0.0.1:{port};
location / {{
proxy_pass http://app;
proxy_http_version 1.1;
proxy_set_header Connection \"\";
}}
}}
"
        )
    })
}

/// `lb_policy cookie`: Caddy names the host in a cookie, by a hash with a secret.
pub fn caddy(hosts: &[u16]) -> Program {
    let hosts: Vec<String> = hosts.iter().map(|port| format!("127.0.0.1:{port}")).collect();
    let config = |port| {
        format!(
            "\
{{
  admin off
  auto_https off
}}
http://127.0.0.1:{port} {{
  reverse_proxy {} {{
    lb_policy cookie sid a-secret
    health_uri /health
    health_interval 1s
  }}
}}
",
            hosts.join(" ")
        )
    };
    Program::start(
        tool("MOORING_CADDY", "caddy"),
        |port, _| config(port),
        |command, config, folder| {
            command.args(["run", "--adapter", "caddyfile", "--config"]).arg(config);
            command.env("GOMAXPROCS", "1").env("HOME", folder);
        },
    )
}
