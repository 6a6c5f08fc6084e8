//! The server's certificate and key, from PEM files to what rustls wants.

use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::config::TlsFiles;

/// Reads and checks both files.
///
/// # Errors
/// A message that names the key of the configuration, the file and what would be right.
pub fn read(files: &TlsFiles) -> Result<rustls::ServerConfig, String> {
    let wrong = |key: &str, file: &Path, e: &dyn std::fmt::Display, right: &str| {
        format!("http.{key} = {:?}: {e}; it must be {right}", file.display().to_string())
    };
    let bad_cert = |e: &dyn std::fmt::Display| wrong("tls_cert", &files.cert, e, "a PEM file of the certificate and its chain");
    let bad_key = |e: &dyn std::fmt::Display| wrong("tls_key", &files.key, e, "the PEM file of that certificate's private key");
    let chain: Vec<_> = CertificateDer::pem_file_iter(&files.cert).and_then(Iterator::collect::<Result<_, _>>).map_err(|e| bad_cert(&e))?;
    if chain.is_empty() {
        return Err(bad_cert(&"no certificate in it"));
    }
    let private = PrivateKeyDer::from_pem_file(&files.key).map_err(|e| bad_key(&e))?;
    let mut tls = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, private))
        .map_err(|e| bad_key(&e))?;
    tls.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(tls)
}
