//! The HTTP/1.1 server on loopback, directly on hyper: a simulator must be able to take a request and close the
//! connection without an answer, which no web framework offers.

use std::convert::Infallible;
use std::io;

use axum::Router;
use axum::body::Body;
use axum::http::{Request, Response, StatusCode};
use axum::response::IntoResponse;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tower::ServiceExt;

/// Marks an answer that must not be sent.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Unsent {
    /// The connection is reset instead.
    Reset,
    /// The connection stays open, without an answer, until the client leaves.
    Hang,
}

/// The answer that resets the connection.
pub(crate) fn reset() -> Response<Body> {
    unsent(Unsent::Reset)
}

/// The answer that never comes.
pub(crate) fn hang() -> Response<Body> {
    unsent(Unsent::Hang)
}

fn unsent(how: Unsent) -> Response<Body> {
    let mut response = StatusCode::INTERNAL_SERVER_ERROR.into_response();
    response.extensions_mut().insert(how);
    response
}

/// True if the answer is one to send.
pub(crate) fn is_sent(response: &Response<Body>) -> bool {
    response.extensions().get::<Unsent>().is_none()
}

/// Serves connections until the task is stopped.
pub(crate) async fn serve(listener: TcpListener, router: Router) {
    loop {
        if let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve_connection(stream, router.clone()));
        } else {
            // Most likely the process is out of file handles. That passes, and a tight loop would not help.
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    }
}

fn connection_reset() -> io::Error {
    io::Error::from(io::ErrorKind::ConnectionReset)
}

async fn serve_connection(stream: TcpStream, router: Router) {
    // Small answers are sent without delay: on one machine the stack measures them in milliseconds.
    let _ = stream.set_nodelay(true);
    let service = service_fn(move |request: Request<Incoming>| {
        let router = router.clone();
        async move {
            // In a task of its own: a request is carried out even if its client disconnects, as with the real services.
            let handled = tokio::spawn(router.oneshot(request.map(Body::new))).await;
            let Ok(Ok::<_, Infallible>(response)) = handled else { return Err(connection_reset()) };
            match response.extensions().get::<Unsent>() {
                None => Ok(response),
                Some(Unsent::Reset) => Err(connection_reset()),
                Some(Unsent::Hang) => std::future::pending().await,
            }
        }
    });
    let mut connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    if (&mut connection).await.is_err() {
        // Without lingering, the client sees a reset instead of an orderly close.
        let _ = connection.into_parts().io.into_inner().set_zero_linger();
    }
}
