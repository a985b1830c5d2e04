//! TLS in process: certificate and key from files, read again when asked.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::{self, InconsistentKeys, ServerConfig};

/// Bytes of a PEM file that is read: chains are a few kilobytes.
const MOST_PEM_BYTES: u64 = 1 << 20;

/// PEM files of a server's certificate chain, its own first, and of its private key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// The chain.
    pub certificate: PathBuf,
    /// The key: PKCS #8, PKCS #1 or SEC 1, not encrypted.
    pub key: PathBuf,
}

/// Why a certificate cannot be used. For the operator: paths are named.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// A file cannot be read.
    #[error("could not read {path}")]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file is too large to be what it should be.
    #[error("{path}: expected a PEM file of at most {MOST_PEM_BYTES} bytes, got {bytes}")]
    TooLarge {
        /// Which.
        path: PathBuf,
        /// How large it is.
        bytes: u64,
    },
    /// A file holds no certificate.
    #[error("{path}: expected a certificate in PEM form, found none")]
    NoCertificate {
        /// Which.
        path: PathBuf,
    },
    /// A file holds no key.
    #[error("{path}: expected a private key in PEM form that is not encrypted, found none")]
    NoKey {
        /// Which.
        path: PathBuf,
    },
    /// The key is not the certificate's.
    #[error("the key of {key} is not that of the certificate of {certificate}")]
    Mismatch {
        /// The certificate's file.
        certificate: PathBuf,
        /// The key's.
        key: PathBuf,
    },
    /// Certificate or key are of a kind that is not known.
    #[error("certificate {certificate} and key {key} cannot be used")]
    Unusable {
        /// The certificate's file.
        certificate: PathBuf,
        /// The key's.
        key: PathBuf,
        /// Why.
        source: rustls::Error,
    },
}

/// The certificate in use.
pub(super) struct Tls {
    files: TlsFiles,
    current: RwLock<TlsAcceptor>,
}

impl Tls {
    /// Reads the files.
    pub(super) fn open(files: &TlsFiles) -> Result<Self, TlsError> {
        Ok(Self {
            files: files.clone(),
            current: RwLock::new(acceptor(files)?),
        })
    }

    /// Reads the files again. Where that fails the old certificate stays.
    pub(super) fn reload(&self) -> Result<(), TlsError> {
        let fresh = acceptor(&self.files)?;
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = fresh;
        Ok(())
    }

    /// What greets a client.
    pub(super) fn acceptor(&self) -> TlsAcceptor {
        self.current
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

fn acceptor(files: &TlsFiles) -> Result<TlsAcceptor, TlsError> {
    let (certificate, key) = (files.certificate.clone(), files.key.clone());
    let no_certificate = || TlsError::NoCertificate {
        path: files.certificate.clone(),
    };
    let chain = CertificateDer::pem_slice_iter(&read(&certificate)?)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|_| no_certificate())?;
    if chain.is_empty() {
        return Err(no_certificate());
    }
    let private = PrivateKeyDer::from_pem_slice(&read(&key)?)
        .map_err(|_| TlsError::NoKey { path: key.clone() })?;
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .and_then(|builder| {
            builder
                .with_no_client_auth()
                .with_single_cert(chain, private)
        });
    let mut config = match config {
        Ok(config) => config,
        Err(rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch)) => {
            return Err(TlsError::Mismatch { certificate, key });
        }
        Err(source) => {
            return Err(TlsError::Unusable {
                certificate,
                key,
                source,
            });
        }
    };
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    let failed = |source| TlsError::Read {
        path: path.to_owned(),
        source,
    };
    let bytes = std::fs::metadata(path).map_err(failed)?.len();
    if bytes > MOST_PEM_BYTES {
        return Err(TlsError::TooLarge {
            path: path.to_owned(),
            bytes,
        });
    }
    std::fs::read(path).map_err(failed)
}
