//! A real Prometheus scrapes a running `rapport serve` that scores real interactions; promtool has nothing to say about the page.
//! The shipped rules and the metrics of HTTP alone are in `http/monitoring.rs`.

use std::io::Read;
use std::process::{Command, Stdio};
use std::time::Duration;

use flate2::read::MultiGzDecoder;
use serde_json::Value;

use crate::http::agent;
use crate::process::{Process, RAPPORT, eventually, free_port, root};

const SENT: usize = 300;

#[test]
fn a_real_prometheus_counts_what_serve_scores() {
    let dir = tempfile::tempdir().expect("a folder");
    let bind = format!("127.0.0.1:{}", free_port());
    let mut command = Command::new(RAPPORT);
    command.args(["serve", "--bind", &bind, "--threads", "2", "--model"]).arg(root().join("onnx/champion"));
    command.env("RAPPORT_LOG_DIR", dir.path().join("log")).current_dir(dir.path());
    let mut serve = Process::spawn("serve", command, dir.path());
    let get = |path: &str| agent().get(format!("http://{bind}{path}")).call().ok().filter(|a| a.status().as_u16() == 200);
    eventually("serve is ready", Duration::from_secs(60), || {
        assert!(serve.ended().is_none(), "serve ended: {}", serve.stderr());
        get("/readyz")
    });
    let mut shipped = String::new();
    let file = std::fs::File::open(root().join("deploy/demo/interactions.jsonl.gz")).expect("the shipped interactions");
    MultiGzDecoder::new(file).read_to_string(&mut shipped).expect("the shipped interactions");
    let body: String = shipped.split_inclusive('\n').take(SENT).collect();
    let taken = agent().post(format!("http://{bind}/v1/interactions")).send(body.as_bytes()).expect("an answer");
    assert_eq!(taken.status().as_u16(), 202);

    let port = free_port();
    let config = format!(
        "scrape_configs: [{{job_name: rapport, scrape_interval: 1s, scrape_timeout: 1s, static_configs: [{{targets: ['{bind}']}}]}}]\n"
    );
    std::fs::write(dir.path().join("prometheus.yml"), config).expect("a configuration");
    let mut command = Command::new("prometheus");
    command.arg(format!("--config.file={}", dir.path().join("prometheus.yml").display()));
    command.arg(format!("--storage.tsdb.path={}", dir.path().join("data").display()));
    command.arg(format!("--web.listen-address=127.0.0.1:{port}"));
    let mut prometheus = Process::spawn("prometheus", command, dir.path());
    let mut query = |expression: &str| -> Option<String> {
        assert!(prometheus.ended().is_none(), "Prometheus ended: {}", prometheus.stderr());
        let url = format!("http://127.0.0.1:{port}/api/v1/query");
        let mut answer = agent().get(url).query("query", expression).call().ok()?;
        // Until it has started it answers in plain text.
        let answer: Value = serde_json::from_str(&answer.body_mut().read_to_string().ok()?).ok()?;
        Some(answer.pointer("/data/result/0/value/1")?.as_str()?.to_owned())
    };
    eventually("Prometheus has counted every score", Duration::from_secs(60), || {
        let scored = query("sum(rapport_events_total{outcome=\"scored\"})")?;
        (scored == SENT.to_string()).then_some(())
    });
    assert_eq!(query("up{job=\"rapport\"}").as_deref(), Some("1"));
    assert_eq!(query("sum(rapport_lag_records)").as_deref(), Some("0"));

    let page = dir.path().join("page");
    let metrics = get("/metrics").expect("the page").body_mut().read_to_string().expect("the page");
    std::fs::write(&page, metrics).expect("a file");
    let mut promtool = Command::new("promtool");
    promtool.args(["check", "metrics"]).stdin(Stdio::from(std::fs::File::open(&page).expect("the page")));
    let said = promtool.output().expect("promtool: run `make deps`");
    let said = format!("{}{}", String::from_utf8_lossy(&said.stdout), String::from_utf8_lossy(&said.stderr));
    assert_eq!(said, "", "promtool check metrics");

    serve.signal(libc::SIGTERM);
    let stopped = serve.wait(Duration::from_secs(30));
    assert_eq!(stopped.code, Some(0), "{}", stopped.stderr);
}
