//! A small HTTP server directly on hyper: whole requests in, whole answers out, and no packet delayed, because the
//! measured times are below a millisecond.

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::header::HeaderMap;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

/// A request that has arrived as a whole.
pub(crate) struct Call {
    pub(crate) method: Method,
    pub(crate) path: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

pub(crate) type Answer = Response<Full<Bytes>>;

/// Serves on a free port of loopback until the returned set is dropped.
pub(crate) async fn listen<F, A>(handle: F) -> std::io::Result<(SocketAddr, JoinSet<()>)>
where
    F: Fn(Call) -> A + Clone + Send + Sync + 'static,
    A: Future<Output = Answer> + Send + 'static,
{
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let address = listener.local_addr()?;
    let mut server = JoinSet::new();
    server.spawn(async move {
        let mut connections = JoinSet::new();
        while let Ok((stream, _)) = listener.accept().await {
            let _ = stream.set_nodelay(true);
            let handle = handle.clone();
            let service = service_fn(move |request| respond(handle.clone(), request));
            connections.spawn(async move {
                let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
            });
            while connections.try_join_next().is_some() {}
        }
    });
    Ok((address, server))
}

async fn respond<F, A>(handle: F, request: Request<Incoming>) -> Result<Answer, Infallible>
where
    F: Fn(Call) -> A,
    A: Future<Output = Answer>,
{
    let (head, body) = request.into_parts();
    let Ok(body) = body.collect().await else { return Ok(empty(StatusCode::BAD_REQUEST)) };
    let path = head.uri.path().to_owned();
    Ok(handle(Call { method: head.method, path, headers: head.headers, body: body.to_bytes() }).await)
}

/// An answer without a body.
pub(crate) fn empty(status: StatusCode) -> Answer {
    let mut answer = Response::new(Full::default());
    *answer.status_mut() = status;
    answer
}

/// A body of a kind.
pub(crate) fn body(kind: &'static str, text: String) -> Answer {
    let mut answer = Response::new(Full::from(text));
    answer.headers_mut().insert(hyper::header::CONTENT_TYPE, hyper::header::HeaderValue::from_static(kind));
    answer
}
