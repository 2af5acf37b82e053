//! `florin-acquirer serve`: serves terminals and wallets until it is told to stop.

use std::net::SocketAddr;

use anyhow::Context;
use clap::Args;
use florin::institution::{OpenedInstitution, Server};
use florin::log::{LogFilter, LogForm, start_log};
use serde_json::json;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::level_filters::LevelFilter;

use crate::output::Output;
use crate::typed::listen_address;

/// What is logged unless a filter is given.
pub const LOG_LEVEL: LevelFilter = LevelFilter::INFO;
/// How many threads serve connections; one more works on the store.
const WORKER_THREADS: usize = 2;

/// Serve terminals and wallets over gRPC and TLS 1.3, until SIGTERM or SIGINT.
///
/// Prints `listening` and the address when it is ready.
#[derive(Debug, Args)]
pub struct ServeArguments {
    /// Where to listen: an IP address of this machine and a port, or a port alone for 127.0.0.1.
    /// Port 0 takes any that is free.
    #[arg(
        long,
        default_value = "127.0.0.1:7443",
        value_name = "ADDRESS:PORT",
        value_parser = listen_address,
    )]
    listen: SocketAddr,
}

/// Serves until a signal comes.
pub fn run(
    arguments: ServeArguments,
    opened: OpenedInstitution,
    log: Option<LogFilter>,
    output: &Output,
) -> anyhow::Result<()> {
    start_log(log, LOG_LEVEL, if output.json { LogForm::Json } else { LogForm::Text });
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(WORKER_THREADS)
        .enable_all()
        .build()
        .context(
            "the operating system starts no threads; check the limits on this user's processes",
        )?;
    runtime.block_on(serve(arguments.listen, opened, output))
}

async fn serve(
    listen: SocketAddr,
    opened: OpenedInstitution,
    output: &Output,
) -> anyhow::Result<()> {
    // Before the address is printed: whoever reads it may already send a signal.
    let mut terminate = wait_for(SignalKind::terminate())?;
    let mut interrupt = wait_for(SignalKind::interrupt())?;
    let name = opened.name.clone();
    let server = Server::start(opened, listen).await?;
    let address = server.local_address();
    let object = json!({ "event": "listening", "address": address.to_string(), "name": name });
    output.object(&object, || format!("listening {address}"))?;
    tracing::info!(%address, institution = name, "listening");
    server
        .serve_until(async {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            tracing::info!("shutting down");
        })
        .await?;
    tracing::info!("shut down");
    Ok(())
}

fn wait_for(kind: SignalKind) -> anyhow::Result<Signal> {
    signal(kind).context("the operating system lets the program wait for no signals")
}
