//! TLS in process, with fixed certificates: self-signed, for localhost, good for a hundred years.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use frugal_serve::server::{ListenError, Server, Settings, TlsError, TlsFiles};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use crate::bytes::{Client, get, post_text};
use crate::toy::{SOON, Toy, start};

fn file(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/server/tls");
    folder.join(name)
}

fn files(certificate: &str, key: &str) -> TlsFiles {
    TlsFiles {
        certificate: file(certificate),
        key: file(key),
    }
}

/// Connects, trusting one certificate alone.
async fn connect(toy: &Toy, trusted: &str) -> std::io::Result<Client<TlsStream<TcpStream>>> {
    let mut roots = RootCertStore::empty();
    let certificate = CertificateDer::from_pem_file(file(trusted)).unwrap();
    roots.add(certificate).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let stream = TcpStream::connect(toy.address).await?;
    let name = ServerName::try_from("localhost").unwrap();
    let stream = TlsConnector::from(Arc::new(config))
        .connect(name, stream)
        .await?;
    Ok(Client::over(stream))
}

#[tokio::test]
async fn requests_and_streams_go_through_tls() {
    let toy = start(|settings| settings.tls = Some(files("one.pem", "one.key.pem")));
    let mut client = connect(&toy, "one.pem").await.unwrap();
    client
        .send(&post_text("/v1/echo", &" ".repeat(100_000)))
        .await;
    assert_eq!(client.answer().await.json()["bytes"], 100_000);
    client.send(&get("/v1/count/5")).await;
    assert!(client.until("[DONE]").await.contains("data: 4\n"));
    assert!(connect(&toy, "two.pem").await.is_err());
}

#[tokio::test]
async fn a_client_that_leaves_is_noticed_under_tls() {
    let mut toy = start(|settings| settings.tls = Some(files("one.pem", "one.key.pem")));
    let mut best = Duration::MAX;
    for _ in 0..3 {
        let mut client = connect(&toy, "one.pem").await.unwrap();
        client.send(&get("/v1/silent")).await;
        client.until("\r\n\r\n").await;
        let left = Instant::now();
        drop(client);
        let ended = timeout(SOON, toy.dropped.recv()).await.unwrap().unwrap();
        best = best.min(ended.duration_since(left));
    }
    assert!(best < Duration::from_millis(100), "{best:?}");
}

#[tokio::test]
async fn handshakes_that_never_come_are_closed() {
    let toy = start(|settings| {
        settings.tls = Some(files("one.pem", "one.key.pem"));
        settings.head_time = Duration::from_millis(100);
    });
    let mut mute = Client::connect(toy.address).await;
    assert_eq!(mute.rest().await, "");
    let mut plain = Client::connect(toy.address).await;
    plain.send(&get("/livez")).await;
    assert!(
        timeout(SOON, async {
            let mut bytes = Vec::new();
            let _ = tokio::io::AsyncReadExt::read_to_end(&mut plain.stream, &mut bytes).await;
        })
        .await
        .is_ok()
    );
}

#[tokio::test]
async fn a_certificate_is_read_again_when_asked() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let put = |number: &str| {
        std::fs::copy(file(&format!("{number}.pem")), at("cert")).unwrap();
        std::fs::copy(file(&format!("{number}.key.pem")), at("key")).unwrap();
    };
    put("one");
    let toy = start(|settings| {
        settings.tls = Some(TlsFiles {
            certificate: at("cert"),
            key: at("key"),
        });
    });
    assert!(connect(&toy, "one.pem").await.is_ok());
    let mut old = connect(&toy, "one.pem").await.unwrap();
    put("two");
    toy.reload.reload().unwrap();
    assert!(connect(&toy, "one.pem").await.is_err());
    assert!(connect(&toy, "two.pem").await.is_ok());
    old.send(&get("/livez")).await;
    assert_eq!(old.answer().await.status, 200);
    // One that cannot be used leaves the last one in place.
    std::fs::remove_file(at("key")).unwrap();
    assert!(matches!(toy.reload.reload(), Err(TlsError::Read { .. })));
    sleep(Duration::from_millis(10)).await;
    assert!(connect(&toy, "two.pem").await.is_ok());
}

#[tokio::test]
async fn files_that_cannot_be_used_say_why() {
    for (certificate, key, expected) in [
        ("none.pem", "one.key.pem", "could not read"),
        ("one.pem", "none.pem", "could not read"),
        (
            "one.key.pem",
            "one.key.pem",
            "expected a certificate in PEM form",
        ),
        ("one.pem", "one.pem", "expected a private key in PEM form"),
        ("one.pem", "two.key.pem", "is not that of the certificate"),
    ] {
        let mut settings = Settings::usual(vec![([127, 0, 0, 1], 0).into()]);
        settings.tls = Some(files(certificate, key));
        let Err(error) = Server::bind(&settings) else {
            panic!("{certificate} with {key} was taken");
        };
        assert!(matches!(error, ListenError::Tls(_)));
        assert!(error.to_string().contains(expected), "{error}");
    }
}
