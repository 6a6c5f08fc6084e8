//! What Prometheus sees: its own tools check the metrics and the shipped configuration, and a real server scrapes.

use std::io::Write;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::{Service, agent, answer, interaction, loopback};

fn installed(tool: &str) -> bool {
    let found = Command::new(tool).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok();
    if !found {
        eprintln!("SKIPPED: {tool} is not installed (on Debian: apt install prometheus)");
    }
    found
}

fn shipped(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/prometheus").join(file)
}

#[test]
fn promtool_has_nothing_to_say_about_the_metrics() {
    if !installed("promtool") {
        return;
    }
    let service = Service::start(&loopback());
    assert_eq!(service.post(interaction("i", "c", "x")).code, 202);
    let metrics = service.get("/metrics");
    assert_eq!(metrics.header("content-type"), "text/plain; version=0.0.4; charset=utf-8");
    for name in [
        "rapport_ready 1",
        "rapport_build_info{",
        "process_cpu_seconds_total",
        "rapport_http_requests_total{code=\"202\",route=\"/v1/interactions\"}",
    ] {
        assert!(metrics.body.contains(name), "{name} is not in\n{}", metrics.body);
    }
    let mut promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    promtool.stdin.take().unwrap().write_all(metrics.body.as_bytes()).unwrap();
    let said = promtool.wait_with_output().unwrap();
    assert!(said.status.success() && said.stdout.is_empty() && said.stderr.is_empty(), "{}", String::from_utf8_lossy(&said.stderr));
}

#[test]
fn the_shipped_configuration_rules_and_their_tests_pass() {
    if !installed("promtool") {
        return;
    }
    let check = |args: &[&str], file: &str| {
        let said = Command::new("promtool").args(args).arg(shipped(file)).current_dir(shipped("")).output().unwrap();
        assert!(
            said.status.success(),
            "{args:?} {file}: {}{}",
            String::from_utf8_lossy(&said.stdout),
            String::from_utf8_lossy(&said.stderr)
        );
    };
    // Certificates and tokens are where the service runs, not where this test does.
    check(&["check", "config", "--syntax-only"], "prometheus.yml");
    check(&["check", "rules"], "rules.yml");
    check(&["test", "rules"], "rules_test.yml");
}

#[test]
fn every_metric_that_a_rule_reads_exists() {
    let service = Service::start(&loopback());
    // Series that workers make.
    rapport::metrics::lag(0, 0);
    rapport::metrics::model("of-a-test");
    rapport::metrics::drift("of-a-test", true, 0.0);
    let (metrics, rules) = (service.get("/metrics").body, std::fs::read_to_string(shipped("rules.yml")).unwrap());
    let mut seen = 0;
    for name in rules.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).filter(|w| w.starts_with("rapport_")) {
        seen += 1;
        assert!(metrics.contains(&format!("\n{name}")), "no metric {name}");
    }
    assert!(seen > 5);
}

/// A process that ends with the test.
struct Owned(Child);

impl Drop for Owned {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_real_prometheus_scrapes() {
    if !installed("prometheus") {
        return;
    }
    let service = Service::start(&loopback());
    let dir = tempfile::tempdir().unwrap();
    let config = format!(
        "global: {{scrape_interval: 1s, scrape_timeout: 1s}}\nrule_files: [{}]\nscrape_configs:\n- job_name: rapport\n  static_configs: [{{targets: ['{}']}}]\n",
        shipped("rules.yml").display(),
        service.address()
    );
    std::fs::write(dir.path().join("prometheus.yml"), config).unwrap();
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let child = Command::new("prometheus")
        .arg(format!("--config.file={}", dir.path().join("prometheus.yml").display()))
        .arg(format!("--storage.tsdb.path={}", dir.path().join("data").display()))
        .arg(format!("--web.listen-address=127.0.0.1:{port}"))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let _prometheus = Owned(child);
    let query = |expression: &str| {
        let url = format!("http://127.0.0.1:{port}/api/v1/query?query={expression}");
        let response = agent().get(url).call().ok()?;
        // Until it has started it answers in plain text.
        let said: serde_json::Value = serde_json::from_str(&answer(Ok(response)).body).ok()?;
        Some(said.pointer("/data/result/0/value/1")?.as_str()?.to_owned())
    };
    let until = Instant::now() + Duration::from_secs(40);
    while query("up").as_deref() != Some("1") {
        assert!(Instant::now() < until, "Prometheus never scraped {}", service.address());
        std::thread::sleep(Duration::from_millis(200));
    }
    assert_eq!(query("rapport_build_info").as_deref(), Some("1"));
    let samples: f64 = query("scrape_samples_scraped").unwrap().parse().unwrap();
    assert!(samples > 100.0, "only {samples} samples");
}
