//! Who may call: TLS and a token off loopback, this machine alone without them.

use std::path::Path;

use rapport::config::{HttpConfig, TlsFiles};
use rapport::http::{BindError, Server};
use ureq::tls::{Certificate, RootCerts, TlsConfig};

use super::{Service, agent, answer, interaction, loopback};

const TOKEN: &str = "an-example-of-a-token";

fn certificate(dir: &Path) -> (TlsFiles, Certificate<'static>) {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned(), "127.0.0.1".to_owned()]).unwrap();
    let files = TlsFiles { cert: dir.join("cert.pem"), key: dir.join("key.pem") };
    std::fs::write(&files.cert, made.cert.pem()).unwrap();
    std::fs::write(&files.key, made.signing_key.serialize_pem()).unwrap();
    let root = Certificate::from_pem(made.cert.pem().as_bytes()).unwrap();
    (files, root)
}

#[test]
fn tls_and_token_protect_everything_but_health() {
    let dir = tempfile::tempdir().unwrap();
    let (files, root) = certificate(dir.path());
    let config = HttpConfig { bind: "0.0.0.0:0".parse().unwrap(), tls: Some(files), token: Some(TOKEN.into()) };
    let service = Service::start(&config);
    let base = format!("https://127.0.0.1:{}", service.address().port());
    let agent = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .tls_config(TlsConfig::builder().root_certs(RootCerts::new_with_certs(&[root])).build())
        .build()
        .new_agent();
    for path in ["/healthz", "/readyz"] {
        assert_eq!(answer(agent.get(format!("{base}{path}")).call()).code, 200, "{path}");
    }
    for path in ["/metrics", "/v1/scores", "/v1/alerts", "/v1/customers/c", "/v1/dead-letters", "/", "/nothing"] {
        let without = answer(agent.get(format!("{base}{path}")).call());
        assert_eq!((without.code, without.header("www-authenticate")), (401, "Bearer"), "{path}");
        let wrong = answer(agent.get(format!("{base}{path}")).header("authorization", "Bearer an-example-of-a-tokem").call());
        assert_eq!(wrong.code, 401, "{path}");
    }
    let page = answer(agent.get(format!("{base}/")).call());
    assert!(page.body.contains("token-dialog"), "the page itself asks for the token");
    assert_eq!(answer(agent.post(format!("{base}/v1/interactions")).send(interaction("i", "c", "x"))).code, 401);
    let bearer = format!("Bearer {TOKEN}");
    let sent = agent.post(format!("{base}/v1/interactions")).header("authorization", &bearer).send(interaction("i", "c", "x"));
    assert_eq!(answer(sent).code, 202);
    assert_eq!(answer(agent.get(format!("{base}/metrics")).header("authorization", &bearer).call()).code, 200);
    // In the clear there is nothing to be had.
    assert!(super::agent().get(format!("http://127.0.0.1:{}/healthz", service.address().port())).call().is_err());

    let out = std::process::Command::new(env!("CARGO_BIN_EXE_rapport"))
        .args(["tail", "scores", "--no-follow", "--token", TOKEN, "--url", &base, "--ca"])
        .arg(dir.path().join("cert.pem"))
        .output()
        .unwrap();
    assert_eq!(out.status.code(), Some(0), "{}", String::from_utf8_lossy(&out.stderr));
}

#[test]
fn off_loopback_is_refused_without_both() {
    let dir = tempfile::tempdir().unwrap();
    let (files, _) = certificate(dir.path());
    let open = HttpConfig { bind: "0.0.0.0:0".parse().unwrap(), ..loopback() };
    for config in [open.clone(), HttpConfig { token: Some(TOKEN.into()), ..open.clone() }, HttpConfig { tls: Some(files), ..open.clone() }]
    {
        let refused = Server::bind(&config).err().unwrap();
        assert!(matches!(&refused, BindError::Config(m) if m.contains("http.tls_cert") && m.contains("http.token")), "{refused}");
    }
}

#[test]
fn tls_files_that_are_none_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let (files, _) = certificate(dir.path());
    let nonsense = dir.path().join("nonsense.pem");
    std::fs::write(&nonsense, "no PEM").unwrap();
    let missing = dir.path().join("missing.pem");
    for (cert, key, named) in [
        (&nonsense, &files.key, "http.tls_cert"),
        (&missing, &files.key, "http.tls_cert"),
        (&files.cert, &nonsense, "http.tls_key"),
        (&files.cert, &missing, "http.tls_key"),
    ] {
        let config = HttpConfig { tls: Some(TlsFiles { cert: cert.clone(), key: key.clone() }), ..loopback() };
        let refused = Server::bind(&config).err().unwrap().to_string();
        assert!(refused.starts_with(named), "{refused}");
    }
}

#[test]
fn web_pages_of_other_origins_get_nothing() {
    let service = Service::start(&loopback());
    let rebound = agent().get(format!("{}/v1/scores", service.base)).header("host", "evil.example").call();
    assert_eq!(answer(rebound).code, 403);
    let named = agent().get(format!("{}/v1/scores", service.base)).header("host", "localhost:8080").call();
    assert_eq!(answer(named).code, 200);
    let forged =
        agent().post(format!("{}/v1/interactions", service.base)).header("sec-fetch-site", "cross-site").send(interaction("i", "c", "x"));
    assert_eq!(answer(forged).code, 403);
    let own =
        agent().post(format!("{}/v1/interactions", service.base)).header("sec-fetch-site", "same-origin").send(interaction("i", "c", "x"));
    assert_eq!(answer(own).code, 202);
}

#[test]
fn the_console_may_load_nothing_from_elsewhere() {
    let service = Service::start(&loopback());
    let (page, again) = (service.get("/"), service.get("/"));
    assert_eq!(page.code, 200);
    assert!(page.header("content-type").starts_with("text/html"));
    let policy = page.header("content-security-policy");
    assert!(policy.contains("default-src 'none'") && policy.contains("script-src 'nonce-"), "{policy}");
    assert_ne!(policy, again.header("content-security-policy"), "a nonce serves once");
    let nonce = policy.split("'nonce-").nth(1).unwrap().split('\'').next().unwrap();
    assert_eq!(page.body.matches(&format!("nonce=\"{nonce}\"")).count(), 2);
}
