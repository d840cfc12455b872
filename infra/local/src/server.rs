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

/// Marks an answer that must not be sent: the connection is reset instead.
#[derive(Clone, Copy)]
struct Reset;

/// The answer that resets the connection.
pub(crate) fn reset() -> Response<Body> {
    let mut response = StatusCode::INTERNAL_SERVER_ERROR.into_response();
    response.extensions_mut().insert(Reset);
    response
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

async fn serve_connection(stream: TcpStream, router: Router) {
    // Small answers are sent without delay: on one machine the stack measures them in milliseconds.
    let _ = stream.set_nodelay(true);
    let service = service_fn(move |request: Request<Incoming>| {
        let router = router.clone();
        async move {
            // In a task of its own: a request is carried out even if its client disconnects, as with the real services.
            let handled = tokio::spawn(router.oneshot(request.map(Body::new))).await;
            match handled {
                Ok(Ok::<_, Infallible>(response)) if response.extensions().get::<Reset>().is_none() => Ok(response),
                _ => Err(io::Error::from(io::ErrorKind::ConnectionReset)),
            }
        }
    });
    let mut connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    if (&mut connection).await.is_err() {
        // Without lingering, the client sees a reset instead of an orderly close.
        let _ = connection.into_parts().io.into_inner().set_zero_linger();
    }
}
