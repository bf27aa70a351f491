//! The listener and the HTTP server on it.

use std::io;
use std::net::SocketAddr;
use std::net::TcpListener;
use std::time::Duration;

use actix_web::App;
use actix_web::HttpServer;
use actix_web::dev::ServerHandle;
use actix_web::middleware::from_fn;
use actix_web::web;
use socket2::Domain;
use socket2::Protocol;
use socket2::Socket;
use socket2::TcpKeepalive;
use socket2::Type;

use crate::base::metric;
use crate::http::error::ApiError;
use crate::http::middleware;
use crate::http::routes;
use crate::router::Router;

/// Connections that wait to be accepted.
const BACKLOG: i32 = 1_024;
/// What the kernel keeps for a socket that does not read; without it, up to 4 MiB each.
const SEND_BUFFER_BYTES: usize = 128 << 10;
/// When the kernel ends a connection whose peer takes nothing; nothing else can (see `socket.rs`).
const USER_TIMEOUT: Duration = Duration::from_secs(15);
const KEEP_ALIVE: Duration = Duration::from_secs(30);
/// Longest time for the head of a request.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);
/// How long requests in flight may take when the server stops.
const DRAIN_S: u64 = 3;

/// A server that accepts.
pub struct Server {
    /// Where.
    pub address: SocketAddr,
    /// Stops it.
    pub handle: ServerHandle,
    /// Resolves when it has stopped.
    pub done: tokio::task::JoinHandle<io::Result<()>>,
}

/// A connection that is counted while it is open.
struct Connection;

impl Connection {
    fn open() -> Self {
        metric::counters().connections.inc();
        Self
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        metric::counters().connections.dec();
    }
}

/// Starts to accept on `address` with `workers` threads.
///
/// Socket options are set on the listener: connections inherit them.
///
/// # Errors
///
/// When the address is taken or not of this machine.
pub fn bind(address: SocketAddr, workers: usize, router: Router) -> io::Result<Server> {
    let listener = listen(address)?;
    let address = listener.local_addr()?;
    let connections = router.limits().connections_count / workers.max(1);
    let server = HttpServer::new(move || {
        let path = web::PathConfig::default().error_handler(|error, request| {
            let pattern = request.match_pattern().unwrap_or_default();
            // The library's words for the one type that is not a text, made plain.
            let problem = error.to_string().replace("Path deserialize error: ", "");
            let problem = problem.replace("can not parse ", "").replace('"', "`");
            let problem = problem.replace(" to a u64", " is no whole number");
            ApiError::invalid(format!("the path does not fit `{pattern}`: {problem}")).into()
        });
        App::new()
            .app_data(web::Data::new(router.clone()))
            .app_data(path)
            .wrap(from_fn(middleware::watch))
            .configure(routes::routes)
    })
    .on_connect(|_, extensions| {
        extensions.insert(Connection::open());
    })
    .workers(workers)
    .max_connections(connections)
    .keep_alive(KEEP_ALIVE)
    .client_request_timeout(HEAD_TIMEOUT)
    .shutdown_timeout(DRAIN_S)
    .disable_signals()
    .listen(listener)?
    .run();
    let handle = server.handle();
    let done = actix_web::rt::spawn(server);
    Ok(Server { address, handle, done })
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_tcp_nodelay(true)?;
    socket.set_send_buffer_size(SEND_BUFFER_BYTES)?;
    socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(Duration::from_secs(60)))?;
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(Some(USER_TIMEOUT))?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}
