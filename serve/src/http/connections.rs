//! Connections: what a client may take of the machine, and the end.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use super::app::App;
use super::router::router;

/// Most bytes of a request's line and headers.
const HEADER_BYTES: usize = 64 << 10;
/// Most headers of a request.
const HEADERS: usize = 100;
/// A pause where the system has no descriptor left.
const PAUSE: Duration = Duration::from_millis(100);
/// How long connections have to notice that their answers have ended.
const LAST_BYTES: Duration = Duration::from_secs(2);

/// Serves until `end` is ready, and then until answers have ended or their time is over.
pub(super) async fn serve(listener: TcpListener, app: Arc<App>, end: impl Future<Output = ()>) {
    let router = router(app.clone());
    let graceful = GracefulShutdown::new();
    let room = Arc::new(Semaphore::new(app.options.max_connections.max(1)));
    tokio::pin!(end);
    loop {
        // Without room the system's queue keeps them.
        let permit = tokio::select! {
            permit = room.clone().acquire_owned() => permit,
            () = &mut end => break,
        };
        let Ok(permit) = permit else { break };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = &mut end => break,
        };
        match accepted {
            Ok((stream, _)) => {
                prepare(&stream, app.options.unread_time);
                let connection = connection(stream, &router, app.options.header_time);
                let connection = graceful.watch(connection);
                tokio::spawn(async move {
                    // Clients that break off are no events.
                    if let Err(error) = connection.await {
                        tracing::debug!(%error, "a connection ended");
                    }
                    drop(permit);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "no connection can be accepted");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
    drop(listener);
    drain(&app, graceful).await;
}

/// Lets tokens, which are small, go out at once, and the system end a connection whose client is gone without a
/// word or takes nothing. What it does not offer is left out.
fn prepare(stream: &TcpStream, unread_time: Duration) {
    _ = stream.set_nodelay(true);
    let socket = SockRef::from(stream);
    let probes = TcpKeepalive::new().with_time(unread_time);
    _ = socket.set_tcp_keepalive(&probes);
    limit_unread(&socket, unread_time);
}

#[cfg(target_os = "linux")]
fn limit_unread(socket: &SockRef<'_>, time: Duration) {
    _ = socket.set_tcp_user_timeout(Some(time));
}

#[cfg(not(target_os = "linux"))]
fn limit_unread(_: &SockRef<'_>, _: Duration) {}

fn connection(
    stream: TcpStream,
    router: &Router,
    header_time: Duration,
) -> http1::Connection<TokioIo<TcpStream>, TowerToHyperService<Router>> {
    let service = TowerToHyperService::new(router.clone());
    http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(header_time)
        .max_buf_size(HEADER_BYTES)
        .max_headers(HEADERS)
        .serve_connection(TokioIo::new(stream), service)
}

/// Lets answers end, takes no more, and ends those that take too long.
async fn drain(app: &Arc<App>, graceful: GracefulShutdown) {
    tracing::info!("ending: answers that run have {} s", app.options.drain.as_secs());
    app.ending.store(true, Ordering::Relaxed);
    let (time, models) = (app.options.drain, app.models.clone());
    let drained = tokio::task::spawn_blocking(move || {
        std::thread::scope(|scope| {
            for running in models.iter().filter_map(|model| model.running()) {
                scope.spawn(|| running.drain(time));
            }
        });
    });
    let connections = graceful.shutdown();
    _ = drained.await;
    _ = tokio::time::timeout(LAST_BYTES, connections).await;
}
