//! The HTTP side as a caller meets it: a real server over a real embedded log.

mod monitoring;
mod protection;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rapport::config::HttpConfig;
use rapport::customer::{CustomerState, Item, words::Splitter};
use rapport::http::{BindError, Running, Server, Status, WorkerStatus};
use rapport::interaction::{DecodeOptions, decode};
use rapport::log::embedded::Embedded;
use rapport::log::{Commit, Log, Output, Polled, StateChange};
use serde_json::{Value, json};

pub struct Service {
    log: Embedded,
    status: Arc<Status>,
    running: Option<Running>,
    base: String,
    _dir: tempfile::TempDir,
}

pub fn loopback() -> HttpConfig {
    HttpConfig { bind: "127.0.0.1:0".parse().unwrap(), tls: None, token: None }
}

impl Service {
    /// One worker, ready.
    fn start(config: &HttpConfig) -> Self {
        let service = Self::start_unready(config);
        service.status.set(0, WorkerStatus::Ready(1));
        service
    }

    fn start_unready(config: &HttpConfig) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let log = Embedded::open_with(dir.path(), 1).unwrap();
        let status = Arc::new(Status::new(1));
        let server = Server::bind(config).unwrap();
        let base = server.url();
        let running = server.start(Arc::new(log.clone()), status.clone()).unwrap();
        Self { log, status, running: Some(running), base, _dir: dir }
    }

    fn address(&self) -> SocketAddr {
        self.running.as_ref().unwrap().address()
    }

    fn get(&self, path: &str) -> Answer {
        answer(agent().get(format!("{}{path}", self.base)).call())
    }

    fn post(&self, body: impl AsRef<[u8]>) -> Answer {
        answer(agent().post(format!("{}/v1/interactions", self.base)).send(body.as_ref()))
    }

    fn commit(&self, commit: &Commit) {
        let mut worker = self.log.worker(0, 1).unwrap();
        worker.commit(commit).unwrap();
    }
}

pub fn agent() -> ureq::Agent {
    ureq::Agent::config_builder().http_status_as_error(false).timeout_global(Some(Duration::from_secs(60))).build().new_agent()
}

pub struct Answer {
    pub code: u16,
    pub headers: ureq::http::HeaderMap,
    pub body: String,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|e| panic!("{e}: {}", self.body))
    }

    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |v| v.to_str().unwrap())
    }
}

pub fn answer(response: Result<ureq::http::Response<ureq::Body>, ureq::Error>) -> Answer {
    let mut response = response.unwrap();
    let body = response.body_mut().with_config().limit(u64::MAX).read_to_string().unwrap();
    Answer { code: response.status().as_u16(), headers: response.headers().clone(), body }
}

fn interaction(id: &str, customer: &str, text: &str) -> String {
    json!({"id": id, "customer_id": customer, "occurred_at": "2026-03-01T10:00:00Z", "kind": "message", "text": text}).to_string()
}

fn output(key: &str, value: &Value) -> Output {
    Output { partition: 0, key: Some(key.into()), value: value.to_string().into_bytes(), headers: Vec::new() }
}

#[test]
fn ready_when_the_workers_are() {
    let service = Service::start_unready(&loopback());
    assert_eq!(service.get("/healthz").code, 200);
    let waiting = service.get("/readyz");
    assert_eq!((waiting.code, waiting.json()), (503, json!({"error": "worker 0 waits for its partitions"})));
    let refused = service.post(interaction("i", "c", "hello"));
    assert_eq!((refused.code, refused.header("retry-after")), (503, "1"));
    service.status.set(0, WorkerStatus::Ready(1));
    assert_eq!(service.get("/readyz").code, 200);
    assert_eq!(service.post(interaction("i", "c", "hello")).code, 202);
}

#[test]
fn good_lines_are_appended_as_sent_and_bad_ones_come_back() {
    let service = Service::start(&loopback());
    let (first, second) = (interaction("i-1", "c-1", "hello"), interaction("i-2", "c-2", "再见"));
    let mut body = format!("{first}\r\n\n{{\"id\":\n{second}\n{{\"id\":\"i-3\"}}\n[]\n").into_bytes();
    body.extend_from_slice(b"{\"id\":\"\xff\"}");
    let answer = service.post(&body);
    assert_eq!(answer.code, 202, "{}", answer.body);
    let answer = answer.json();
    assert_eq!(answer["accepted"], 2);
    let errors: Vec<_> = answer["errors"].as_array().unwrap().iter().map(|e| (e["line"].clone(), e["class"].clone())).collect();
    let expected = [(3, "malformed_json"), (5, "missing_field"), (6, "not_an_object"), (7, "invalid_utf8")];
    assert_eq!(errors, expected.map(|(line, class)| (json!(line), json!(class))));
    assert!(answer["errors"].as_array().unwrap().iter().all(|e| e["message"].as_str().is_some_and(|m| m.len() > 5)));

    let mut worker = service.log.worker(0, 1).unwrap();
    let mut records = Vec::new();
    while records.len() < 2 {
        if let Polled::Records(more) = worker.poll(10, Duration::from_millis(50)).unwrap() {
            records.extend(more.into_iter().map(|r| (r.key.unwrap(), r.value)));
        }
    }
    assert_eq!(records, [(b"c-1".to_vec(), first.into_bytes()), (b"c-2".to_vec(), second.into_bytes())]);
}

#[test]
fn a_time_far_ahead_goes_back_to_its_sender() {
    let service = Service::start(&loopback());
    let line = json!({"id": "i", "customer_id": "c", "occurred_at": "2099-01-01T00:00:00Z", "kind": "visit"}).to_string();
    let answer = service.post(line).json();
    assert_eq!((&answer["accepted"], &answer["errors"][0]["class"]), (&json!(0), &json!("future")));
}

#[test]
fn bodies_over_the_limit_are_413_announced_or_not() {
    let service = Service::start(&loopback());
    let head = |more: &str| format!("POST /v1/interactions HTTP/1.1\r\nHost: localhost\r\n{more}\r\n\r\n");
    let mut announced = TcpStream::connect(service.address()).unwrap();
    announced.write_all(head(&format!("Content-Length: {}", (64 << 20) + 1)).as_bytes()).unwrap();
    assert!(status_line(announced).starts_with("HTTP/1.1 413"));

    let mut chunked = TcpStream::connect(service.address()).unwrap();
    chunked.write_all(head("Transfer-Encoding: chunked").as_bytes()).unwrap();
    let mut chunk = b"100000\r\n".to_vec();
    chunk.resize(chunk.len() + (1 << 20), b'\n');
    chunk.extend_from_slice(b"\r\n");
    // The server answers and closes once it has seen enough, while this side may still be writing.
    let sent = (0..70).take_while(|_| chunked.write_all(&chunk).is_ok()).count();
    assert!(sent >= 64, "closed after {sent} MiB");
    assert!(status_line(chunked).starts_with("HTTP/1.1 413"));
    assert_eq!(service.post(interaction("i", "c", "still alive")).code, 202);
}

fn status_line(stream: TcpStream) -> String {
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).unwrap();
    line
}

#[test]
fn scores_are_read_in_pages() {
    let service = Service::start(&loopback());
    let all: Vec<Value> = (0..25).map(|n| json!({"customer_id": "c", "interaction_id": format!("i-{n}"), "n": n})).collect();
    service.commit(&Commit { scores: all.iter().map(|v| output("c", v)).collect(), ..Default::default() });
    let (mut from, mut read) = (0, Vec::new());
    loop {
        let page = service.get(&format!("/v1/scores?from={from}&limit=10"));
        assert_eq!((page.code, page.header("content-type")), (200, "application/x-ndjson"));
        let next: usize = page.header("x-next-offset").parse().unwrap();
        read.extend(page.body.lines().map(|l| serde_json::from_str::<Value>(l).unwrap()));
        if next == from {
            break;
        }
        from = next;
    }
    assert_eq!(read, all);
    assert_eq!(service.get("/v1/scores?last=2").body.lines().count(), 2);
    assert_eq!(service.get("/v1/scores").body.lines().count(), 25);
    let beyond = service.get("/v1/scores?from=900");
    assert_eq!((beyond.body.as_str(), beyond.header("x-next-offset")), ("", "900"));
    for bad in ["from=-1", "from=x", "limit=0", "limit=1000000", "since=3"] {
        let answer = service.get(&format!("/v1/scores?{bad}"));
        assert_eq!(answer.code, 400, "{bad}");
        assert!(answer.json()["error"].as_str().unwrap().contains(bad.split('=').next().unwrap()), "{bad}: {}", answer.body);
    }
}

#[test]
fn dead_letters_show_the_bytes_and_the_reason() {
    let service = Service::start(&loopback());
    let headers = vec![("rapport.error.class", "malformed_json".to_owned()), ("rapport.offset", "7".to_owned())];
    let letter = Output { partition: 0, key: None, value: b"{\"id\":\xff".to_vec(), headers };
    service.commit(&Commit { dead_letters: vec![letter], ..Default::default() });
    let line = service.get("/v1/dead-letters").json();
    let headers = json!({"rapport.error.class": "malformed_json", "rapport.offset": "7"});
    let shown = json!({"partition": 0, "offset": 0, "key": null, "headers": headers, "raw": "{\"id\":\u{fffd}", "logged_at": null});
    assert_eq!(line, shown);
}

/// Reads server-sent events as (id, data) until `wanted` have come.
fn events(reader: &mut impl BufRead, wanted: usize) -> Vec<(i64, Value)> {
    let (mut all, mut id, mut line) = (Vec::new(), None, String::new());
    while all.len() < wanted {
        line.clear();
        assert!(reader.read_line(&mut line).unwrap() > 0, "the stream ended after {all:?}");
        if let Some(n) = line.trim_end().strip_prefix("id: ") {
            id = Some(n.parse().unwrap());
        } else if let Some(data) = line.trim_end().strip_prefix("data: ") {
            all.push((id.take().unwrap(), serde_json::from_str(data).unwrap()));
        }
    }
    all
}

#[test]
fn alerts_stream_and_resume() {
    let mut service = Service::start(&loopback());
    let alert = |n: i64| json!({"id": format!("{n:032x}"), "customer_id": "c", "state": "raised"});
    let commit = |range: std::ops::Range<i64>| Commit { alerts: range.map(|n| output("c", &alert(n))).collect(), ..Default::default() };
    service.commit(&commit(0..5));
    let open = |query: &str, last_id: Option<&str>| {
        let mut request = agent().get(format!("{}/v1/alerts{query}", service.base));
        if let Some(id) = last_id {
            request = request.header("last-event-id", id);
        }
        let response = request.call().unwrap();
        assert_eq!((response.status().as_u16(), response.headers()["content-type"].to_str().unwrap()), (200, "text/event-stream"));
        BufReader::new(response.into_body().into_reader())
    };
    let expected = |range: std::ops::Range<i64>| range.map(|n| (n, alert(n))).collect::<Vec<_>>();
    let mut from = open("?from=3", None);
    assert_eq!(events(&mut from, 2), expected(3..5));
    let mut live = open("", None);
    let mut resumed = open("?from=0", Some("1"));
    assert_eq!(events(&mut resumed, 3), expected(2..5));
    service.commit(&commit(5..7));
    assert_eq!(events(&mut live, 2), expected(5..7));
    assert_eq!(events(&mut from, 2), expected(5..7));

    let bad = agent().get(format!("{}/v1/alerts", service.base)).header("last-event-id", "x").call();
    assert_eq!(answer(bad).code, 400);
    let lines = agent().get(format!("{}/v1/alerts?from=6", service.base)).header("accept", "application/x-ndjson").call();
    assert_eq!(answer(lines).body.trim_end(), alert(6).to_string());

    // Open streams do not hold up the end.
    let began = Instant::now();
    service.running.take().unwrap().stop();
    assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
    let mut rest = String::new();
    let _ = live.read_to_string(&mut rest);
    assert!(!rest.contains("data:"), "{rest}");
}

#[test]
fn a_customer_is_shown_readably() {
    let service = Service::start(&loopback());
    let id = "c/1 \u{fc}?";
    let mut state = CustomerState::default();
    let mut splitter = Splitter::default();
    let texts = ["I don't want it, it's broken!", "thanks"];
    for (n, text) in texts.iter().enumerate() {
        let line = json!({"id": format!("i-{n}"), "customer_id": id, "occurred_at": format!("2026-03-01T10:0{n}:00Z"), "kind": "message", "text": text, "rating": 2});
        let decoded = decode(line.to_string().as_bytes(), DecodeOptions::default()).unwrap().interaction;
        splitter.split(text);
        let kept = splitter.words().collect::<Vec<_>>().join(" ");
        state.push(Item::new(&decoded, &splitter), Some(kept.into()), 32);
    }
    let mut stored = Vec::new();
    state.encode(&mut stored);
    let score = |n: i32, value: f64| json!({"customer_id": id, "interaction_id": format!("i-{n}"), "satisfaction": {"value": value, "baseline": 3.5}, "intent": [{"label": "refund", "probability": 0.9}]});
    service.commit(&Commit {
        states: vec![StateChange { partition: 0, customer_id: id.into(), state: Some(stored) }],
        scores: vec![output(id, &score(0, 2.0)), output("other", &score(1, 5.0)), output(id, &score(1, 2.5))],
        ..Default::default()
    });
    let answer = service.get("/v1/customers/c%2F1%20%C3%BC%3F");
    assert_eq!(answer.code, 200, "{}", answer.body);
    let view = answer.json();
    assert_eq!((&view["customer_id"], &view["interactions"], &view["baseline"]), (&json!(id), &json!(2), &json!(3.5)));
    let window = view["window"].as_array().unwrap();
    let first: BTreeMap<_, _> = window[0].as_object().unwrap().iter().collect();
    for (field, value) in [
        ("interaction_id", json!("i-0")),
        ("occurred_at", json!("2026-03-01T10:00:00Z")),
        ("actor", json!("customer")),
        ("kind", json!("message")),
        ("rating", json!(2.0)),
        ("amount", json!(null)),
        ("text", json!("i don't want it, it's broken!")),
        ("satisfaction", json!({"value": 2.0, "baseline": 3.5})),
    ] {
        assert_eq!(*first[&field.to_owned()], value, "{field}");
    }
    assert_eq!(window[1]["satisfaction"]["value"], 2.5);
    assert_eq!(service.get("/v1/customers/nobody").code, 404);
}

#[test]
fn errors_are_json() {
    let service = Service::start(&loopback());
    for (answer, code) in [
        (service.get("/nothing/here"), 404),
        (service.get("/v1/interactions"), 405),
        (answer(agent().post(format!("{}/v1/scores", service.base)).send_empty()), 405),
    ] {
        assert_eq!(answer.code, code);
        assert!(answer.json()["error"].is_string(), "{}", answer.body);
    }
}

#[test]
fn a_port_in_use_is_said_so() {
    let service = Service::start(&loopback());
    let again = Server::bind(&HttpConfig { bind: service.address(), ..loopback() }).err().unwrap();
    assert!(matches!(again, BindError::Listen { .. }));
    assert!(again.to_string().contains(&service.address().to_string()) && again.to_string().contains("http.bind"), "{again}");
}

#[test]
fn tail_prints_what_the_service_published() {
    let service = Service::start(&loopback());
    let scores: Vec<Value> = (0..1500).map(|n| json!({"customer_id": "c", "n": n})).collect();
    service.commit(&Commit { scores: scores.iter().map(|v| output("c", v)).collect(), ..Default::default() });
    let tail = |more: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_rapport"));
        let out = command.args(["tail", "scores", "--url", &service.base, "--no-follow"]).args(more).output().unwrap();
        (out.status.code(), String::from_utf8(out.stdout).unwrap(), String::from_utf8(out.stderr).unwrap())
    };
    let (code, out, err) = tail(&["--from", "0"]);
    assert_eq!(code, Some(0), "{err}");
    let lines: Vec<Value> = out.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    assert_eq!(lines, scores);
    assert_eq!(tail(&[]).1.lines().count(), 10);
    let (code, _, err) = tail(&["--from", "x"]);
    assert_eq!(code, Some(2), "{err}");
    let gone = Command::new(env!("CARGO_BIN_EXE_rapport")).args(["tail", "alerts", "--url", "http://127.0.0.1:1"]).output().unwrap();
    assert_eq!(gone.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&gone.stderr).contains("rapport serve"));
}
