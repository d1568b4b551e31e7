//! A small HTTP server to put behind Envoy: it shows who served and what it got, and misbehaves when told to.
//!
//! `upstream --listen 127.0.0.1:9001 --name a` speaks HTTP/1.1 and HTTP/2 (prior knowledge) on one port. The first line on
//! stdout says where it listens, which matters with port 0: `listening on 127.0.0.1:40123`. SIGTERM and SIGINT stop it.
//! Routes and query parameters: see [`upstream::server`]; the page that `--demo` adds: [`upstream::demo`].

#[cfg(test)]
mod tests;

use axum::Router;
use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::process::ExitCode;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use upstream::demo::{self, Settings};
use upstream::server;

const USAGE: &str = "\
Usage: upstream --listen ADDRESS [--name NAME] [--demo SETTINGS]

  --listen ADDRESS  where to listen: 127.0.0.1:9001; port 0 takes a free one
  --name NAME       what it calls itself (default: the address)
  --demo SETTINGS   serves a page to browsers on which anybody may end it; what SETTINGS are: demo.rs
  --help            this text";

#[derive(Debug, PartialEq, Eq)]
enum Command {
    Help,
    Serve { listen: SocketAddr, name: Option<String>, demo: Option<Settings> },
}

#[tokio::main]
async fn main() -> ExitCode {
    let outcome = match command(std::env::args().skip(1)) {
        Ok(Command::Help) => writeln!(io::stdout(), "{USAGE}"),
        Ok(Command::Serve { listen, name, demo }) => run(listen, name, demo).await,
        Err(message) => {
            eprintln!("upstream: {message}\n\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("upstream: {error}");
            ExitCode::FAILURE
        }
    }
}

fn command(mut arguments: impl Iterator<Item = String>) -> Result<Command, String> {
    let (mut listen, mut name, mut demo) = (None, None, None);
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().ok_or_else(|| format!("{argument} needs a value"));
        match argument.as_str() {
            "--help" | "-h" => return Ok(Command::Help),
            "--listen" => {
                let text = value()?;
                let address =
                    text.parse().map_err(|_| format!("--listen {text}: not an address like 127.0.0.1:9001"))?;
                listen = Some(address);
            }
            "--name" => name = Some(value()?),
            "--demo" => demo = Some(Settings::parse(&value()?).map_err(|error| format!("--demo: {error}"))?),
            unknown => return Err(format!("unknown argument {unknown}")),
        }
    }
    let listen = listen.ok_or("--listen is missing")?;
    Ok(Command::Serve { listen, name, demo })
}

async fn run(listen: SocketAddr, name: Option<String>, demo: Option<Settings>) -> io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let listener = TcpListener::bind(listen)
        .await
        .map_err(|error| io::Error::new(error.kind(), format!("cannot listen on {listen}: {error}")))?;
    let address = listener.local_addr()?;
    writeln!(io::stdout(), "listening on {address}")?;
    let stop = async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    };
    let more = |upstream| demo.map_or_else(Router::new, |settings| demo::routes(upstream, settings));
    server::serve(listener, name.unwrap_or_else(|| address.to_string()), more, stop).await
}
