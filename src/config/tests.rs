//! Every setting from every source, and a message for every way of getting one wrong.

use super::*;

fn parse(toml: &str, env: &[(&str, &str)], flags: &Overrides) -> Result<(Config, Vec<String>), String> {
    let env = env.iter().map(|(k, v)| (k.to_string(), v.to_string()));
    Config::parse(Some((Path::new("rapport.toml"), toml)), env, flags)
}

fn ok(toml: &str) -> Config {
    parse(toml, &[], &Overrides::default()).unwrap().0
}

/// The message must contain every one of `parts`.
fn wrong(toml: &str, parts: &[&str]) {
    let message = parse(toml, &[], &Overrides::default()).expect_err(toml);
    for part in parts {
        assert!(message.contains(part), "{message:?} does not contain {part:?}");
    }
}

#[test]
fn nothing_set() {
    let c = ok("");
    assert_eq!(c.log.kind, LogKind::Embedded);
    assert_eq!((c.log.group.as_str(), c.log.prefix.as_str()), ("rapport", "rapport"));
    assert_eq!(c.log.dir, Path::new("rapport-data/log"));
    assert_eq!(c.model.dir, Path::new(DEFAULT_MODEL));
    assert!(c.model.registry.is_none() && c.model.shadow.is_none() && c.model.rebuilds_per_commit > 0);
    assert_eq!(c.engine(), EngineConfig::default());
    assert!(c.worker.threads >= 1 && !c.worker.instance.is_empty());
    assert_eq!(c.worker.batch, 512);
    assert_eq!(c.http.bind.to_string(), "127.0.0.1:8080");
    assert!(c.http.tls.is_none() && c.http.token.is_none());
    assert_eq!((c.state.window, c.state.dedupe), (32, 64));
    assert_eq!(c.state.allowed_lateness, Duration::from_secs(604_800));
    assert_eq!(c.alerts.all.len(), Policies::standard().all.len());
}

#[test]
fn everything_set() {
    let c = ok(r#"
        [log]
        kind = "kafka"
        brokers = "a:9092, SSL://b:9093"
        group = "g"
        prefix = "p.q"
        dir = "/x"
        [log.kafka]
        security.protocol = "SASL_SSL"
        "sasl.password" = "hunter2hunter2"
        "socket.timeout.ms" = 5000
        "enable.ssl.certificate.verification" = true
        [model]
        dir = "m"
        registry = "r"
        shadow = "s"
        rebuilds_per_commit = 5
        [worker]
        threads = 3
        instance = "w-1"
        batch = 7
        [http]
        bind = "[::1]:9000"
        token = "0123456789abcdef"
        [state]
        dir = "s"
        window = 5
        dedupe = 6
        allowed_lateness = "36h"
    "#);
    assert_eq!(c.log.kind, LogKind::Kafka);
    assert_eq!(c.log.brokers, "a:9092,SSL://b:9093");
    let expected = [
        ("enable.ssl.certificate.verification", "true"),
        ("sasl.password", "hunter2hunter2"),
        ("security.protocol", "SASL_SSL"),
        ("socket.timeout.ms", "5000"),
    ];
    assert!(c.log.kafka.iter().map(|(k, v)| (k.as_str(), v.as_str())).eq(expected));
    assert_eq!(c.model.dir, Path::new("m"));
    assert_eq!((c.model.registry.as_deref(), c.model.shadow.as_deref()), (Some(Path::new("r")), Some(Path::new("s"))));
    assert_eq!(c.model.rebuilds_per_commit, 5);
    assert_eq!((c.worker.threads, c.worker.instance.as_str(), c.worker.batch), (3, "w-1", 7));
    assert_eq!(c.http.bind.to_string(), "[::1]:9000");
    assert_eq!((c.state.window, c.state.dedupe, c.state.allowed_lateness.as_secs()), (5, 6, 36 * 3600));
}

#[test]
fn debug_hides_secrets() {
    let c = ok(
        "[http]\ntoken = \"0123456789abcdef\"\n[log]\nkind = \"kafka\"\nbrokers = \"a:1\"\n[log.kafka]\n\"sasl.password\" = \"hunter2\"\n\"ssl.key.pem\" = \"PEMPEM\"\n\"sasl.username\" = \"u-s-e-r\"",
    );
    let shown = format!("{c:?}");
    assert!(shown.contains("u-s-e-r"), "{shown}");
    for secret in ["0123456789abcdef", "hunter2", "PEMPEM"] {
        assert!(!shown.contains(secret), "{shown}");
    }
    wrong("[http]\ntoken = \"short-secret\"", &["http.token", "(hidden)", "16"]);
    assert!(!parse("[http]\ntoken = \"short-secret\"", &[], &Overrides::default()).unwrap_err().contains("short-secret"));
}

#[test]
fn environment_wins_over_the_file_and_flags_over_both() {
    let env = [
        ("RAPPORT_LOG", "debug"),
        ("RAPPORT_LOG_KIND", "kafka"),
        ("RAPPORT_LOG_BROKERS", "a:1"),
        ("RAPPORT_MODEL_DIR", "from-env"),
        ("RAPPORT_WORKER_THREADS", "5"),
        ("RAPPORT_STATE_ALLOWED_LATENESS", "1d"),
        ("RAPPORT_HTTP_TOKEN", ""),
        ("RAPPORT_LOG_KAFKA_SASL_PASSWORD", "p"),
        ("RAPPORT_SHARED_DATA", "/d"),
        ("OTHER", "x"),
    ];
    let file = "[model]\ndir = \"from-file\"\n[worker]\nthreads = 2\nbatch = 9\n[log.kafka]\n\"client.rack\" = \"r\"";
    let (c, warnings) = parse(file, &env, &Overrides::default()).unwrap();
    assert_eq!(warnings, Vec::<String>::new());
    assert_eq!(c.model.dir, Path::new("from-env"));
    assert_eq!((c.worker.threads, c.worker.batch), (5, 9));
    assert_eq!(c.state.allowed_lateness.as_secs(), 86_400);
    assert_eq!(c.http.token, None);
    assert_eq!(c.log.kafka["sasl.password"], "p");
    assert_eq!(c.log.kafka["client.rack"], "r");

    let flags = Overrides { model: Some("from-flag".into()), bind: Some("localhost:1".into()), threads: Some(8) };
    let (c, _) = parse(file, &env, &flags).unwrap();
    assert_eq!(c.model.dir, Path::new("from-flag"));
    assert_eq!(c.http.bind.to_string(), "127.0.0.1:1");
    assert_eq!(c.worker.threads, 8);
}

#[test]
fn environment_and_flags_are_checked_under_their_own_names() {
    let e = parse("", &[("RAPPORT_WORKER_THREADS", "many")], &Overrides::default()).unwrap_err();
    assert!(e.contains("RAPPORT_WORKER_THREADS") && e.contains("many") && e.contains("whole number"), "{e}");
    let e = parse("", &[], &Overrides { bind: Some("nowhere".into()), ..Default::default() }).unwrap_err();
    assert!(e.contains("--bind") && e.contains("nowhere"), "{e}");
    let (_, warnings) = parse("", &[("RAPPORT_LOG_BROKER", "a:1")], &Overrides::default()).unwrap();
    assert!(warnings[0].contains("RAPPORT_LOG_BROKER") && warnings[0].contains("did you mean log.brokers"), "{warnings:?}");
}

#[test]
fn wrong_settings_name_file_key_value_and_what_would_be_right() {
    wrong("[log", &["rapport.toml", "not valid TOML"]);
    wrong("[log]\nkind = \"kafak\"", &["rapport.toml", "log.kind", "\"kafak\"", "\"embedded\" or \"kafka\""]);
    wrong("[log]\nkind = 3", &["log.kind", "3"]);
    wrong("[log]\nkind = \"kafka\"", &["log.brokers", "host:port", "RAPPORT_LOG_BROKERS"]);
    wrong("[log]\nbrokers = \"kafka\"", &["log.brokers", "\"kafka\"", "host:port"]);
    wrong("[log]\nbrokers = \"kafka:99999\"", &["log.brokers"]);
    wrong("[log]\nbrokers = \"a:1\"", &["log.brokers is set", "log.kind = \"kafka\""]);
    wrong("[log.kafka]\n\"client.rack\" = \"r\"", &["log.kafka is set", "log.kind = \"kafka\""]);
    wrong("[log]\nbrokers = [\"a:1\"]", &["log.brokers", "host:port"]);
    wrong("[log]\nborkers = \"a:1\"", &["rapport.toml", "unknown key log.borkers", "\"a:1\"", "did you mean log.brokers?"]);
    wrong("[log]\nprefix = \"a b\"", &["log.prefix", "letters"]);
    wrong("[log]\ndir = \"\"", &["log.dir", "not empty"]);
    wrong("[log]\nkafka = 1", &["log.kafka", "[log.kafka]"]);
    wrong("[log.kafka]\na = [1]", &["log.kafka.a", "string"]);
    wrong("[modle]\ndir = \"x\"", &["modle.dir", "did you mean model.dir?"]);
    wrong("colour = \"blue\"", &["unknown key colour", "known keys are"]);
    wrong("[worker]\nthreads = 0", &["worker.threads", "= 0", "whole number from 1"]);
    wrong("[worker]\nthreads = \"2\"", &["worker.threads", "whole number"]);
    wrong("[worker]\nbatch = -1", &["worker.batch", "-1"]);
    wrong("[worker]\ninstance = \"\"", &["worker.instance"]);
    wrong("[http]\nbind = \"127.0.0.1\"", &["http.bind", "127.0.0.1:8080"]);
    wrong("[http]\nbind = \"127.0.0.1:70000\"", &["http.bind"]);
    wrong("[http]\nbind = \"0.0.0.0:80\"", &["http.bind", "0.0.0.0:80", "http.tls_cert, http.tls_key, http.token"]);
    wrong("[http]\ntls_cert = \"/does/not/exist\"", &["http.tls_cert", "/does/not/exist", "PEM"]);
    wrong("[state]\nwindow = 0", &["state.window"]);
    wrong("[state]\nallowed_lateness = 7", &["state.allowed_lateness", "7", "\"7d\""]);
    wrong("[state]\nallowed_lateness = \"a week\"", &["state.allowed_lateness", "a week"]);
    wrong("alerts = 1", &["alerts", "[[alerts]]"]);
    wrong("[[alerts]]\nname = \"x\"\nkind = \"no_such\"", &["[[alerts]] number 1 (\"x\")", "no_such"]);
}

#[test]
fn off_loopback_wants_tls_and_token() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("pem");
    std::fs::write(&file, "x").unwrap();
    let both = format!("[http]\ntls_cert = {file:?}\ntls_key = {file:?}\n");
    assert!(ok(&both).http.tls.is_some());
    wrong(&format!("[http]\ntls_cert = {file:?}"), &["http.tls_key"]);
    wrong(&format!("{both}bind = \"0.0.0.0:8080\""), &["set http.token,"]);
    assert_eq!(ok(&format!("{both}bind = \"0.0.0.0:8080\"\ntoken = \"0123456789abcdef\"")).http.bind.port(), 8080);
}

#[test]
fn a_token_may_come_from_a_file() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("token");
    let toml = |more: &str| format!("[http]\ntoken_file = {file:?}\n{more}");
    wrong(&toml(""), &["http.token_file", file.to_str().unwrap(), "can read"]);
    std::fs::write(&file, "short-secret").unwrap();
    wrong(&toml(""), &["http.token_file", "16 to 512"]);
    std::fs::write(&file, "0123456789abcdef\n").unwrap();
    assert_eq!(ok(&toml("")).http.token.as_deref(), Some("0123456789abcdef"));
    wrong(&toml("token = \"0123456789abcdef\""), &["http.token", "http.token_file", "set one"]);
}
