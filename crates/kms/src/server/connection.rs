//! One connection, from the handshake to its end.

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use super::Shared;
use super::deadline::WriteDeadline;
use super::http;
use super::limits::{MAX_HEAD_LEN, MAX_HEADERS, READ_BUFFER_LEN};

/// A byte stream to a client.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin + 'static {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin + 'static> Stream for S {}

/// Serves a connection until it ends, in TLS if `tls` is given. Errors end it, and concern nobody else.
pub(super) async fn serve(
    stream: impl Stream,
    tls: Option<TlsAcceptor>,
    source: Arc<str>,
    shared: Arc<Shared>,
) {
    let stream = WriteDeadline::new(stream, shared.limits.write_time);
    match tls {
        None => talk(stream, source, shared).await,
        Some(acceptor) => {
            let mut closing = shared.closing();
            let handshake = timeout(shared.limits.handshake_time, acceptor.accept(stream));
            tokio::select! {
                shaken = handshake => if let Ok(Ok(stream)) = shaken { talk(stream, source, shared).await },
                () = closing.begun() => {}
            }
        }
    }
}

async fn talk(stream: impl Stream, source: Arc<str>, shared: Arc<Shared>) {
    let mut closing = shared.closing();
    let limits = shared.limits;
    let service = service_fn(move |request| {
        let (source, shared) = (Arc::clone(&source), Arc::clone(&shared));
        async move { Ok::<_, Infallible>(http::answer(request, &source, &shared).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.head_time)
        .max_headers(MAX_HEADERS)
        .max_header_size(MAX_HEAD_LEN)
        .max_buf_size(READ_BUFFER_LEN)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    tokio::select! {
        _ended = connection.as_mut() => return,
        () = closing.begun() => connection.as_mut().graceful_shutdown(),
    }
    // The request that runs is still answered.
    let _ended = connection.await;
}
