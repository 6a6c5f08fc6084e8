//! The retrain job as it is shipped: the script on a small archive, and that the CronJob and the compose service run that script.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::process::{Finished, Process, RAPPORT, cache, root};

const PATIENCE: Duration = Duration::from_secs(300);

/// Customers who buy every two or three days, until one purchase in fifteen is their last. Days count from the first of January 2026; from `dear` on
/// everything costs three times as much.
fn purchases(days: i64, dear: i64) -> String {
    let (mut lines, mut state) = (Vec::new(), 7u64);
    let mut random = |n: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % n
    };
    for c in 0..200i64 {
        let mut day = c * 7 % (days - 10);
        let mut n = 0;
        while day < days {
            let amount = (10 + c % 5) * if day >= dear { 3 } else { 1 };
            let at = chrono::DateTime::from_timestamp(1_767_225_600 + day * 86_400 + c, 0).expect("a time").to_rfc3339();
            lines.push((
                day * 86_400 + c,
                format!(r#"{{"id":"{c}-{n}","customer_id":"c{c}","occurred_at":"{at}","kind":"purchase","amount":{amount}}}"#),
            ));
            if random(15) == 0 {
                break;
            }
            day += 1 + random(4) as i64;
            n += 1;
        }
    }
    lines.sort();
    lines.into_iter().map(|(_, line)| line + "\n").collect()
}

/// A place for the job, on a day that does not depend on the clock.
struct Job {
    dir: tempfile::TempDir,
}

impl Job {
    fn new() -> Self {
        let job = Job { dir: tempfile::tempdir().expect("a folder") };
        fs::create_dir_all(job.file("archive/interactions")).expect("a folder");
        fs::create_dir(job.file("bin")).expect("a folder");
        let registry = job.file("registry");
        // Nothing serves yet.
        fs::write(job.file("rapport.toml"), format!("[model]\ndir = \"none\"\nregistry = {registry:?}\n")).expect("a configuration");
        let small = "horizon_days = 14\nepochs = 1\nembedding = 8\nfilters = 4\nbag = 8\nvector = 8\nhidden = 8\nbag_rows = 16384\n";
        fs::write(job.file("train.toml"), small).expect("settings");
        // `date -u -d "N days ago" +FORMAT`, as of the last day of the archive.
        let date = "#!/bin/sh\nexec /usr/bin/env -i /bin/date -u -d \"2026-06-30 00:00 UTC $3\" \"$4\"\n";
        let path = job.file("bin/date");
        fs::write(&path, date).expect("a script");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("executable");
        job
    }

    fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// One round that keeps so many days to judge by.
    fn round(&self, days: &str) -> Finished {
        let bin = Path::new(RAPPORT).parent().expect("a folder");
        let path = std::env::var("PATH").expect("a path");
        let mut command = Command::new(root().join("deploy/retrain/retrain.sh"));
        command
            .env("PATH", format!("{}:{}:{path}", self.file("bin").display(), bin.display()))
            .env("RETRAIN_CONFIG", self.file("rapport.toml"))
            .env("RETRAIN_ARCHIVE", self.file("archive"))
            .env("RETRAIN_DIR", self.file("work"))
            .env("RETRAIN_SETTINGS", self.file("train.toml"))
            .env("RAPPORT_MODEL_REGISTRY", self.file("registry"))
            .env("RETRAIN_JUDGE_DAYS", days)
            .current_dir(self.dir.path());
        Process::spawn("retrain", command, self.dir.path()).wait(PATIENCE)
    }

    /// The journal, a decision a line.
    fn journal(&self) -> Vec<Value> {
        let text = fs::read_to_string(self.file("registry/registry.json")).expect("a journal");
        text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
    }
}

#[test]
fn a_company_of_purchases_alone_is_retrained_and_judged_by_what_came() {
    let job = Job::new();
    // The archive ends on the day before the job runs; prices rise after what the first round fits on.
    fs::write(job.file("archive/interactions/2026.jsonl"), purchases(180, 90)).expect("an archive");
    let first = job.round("62");
    assert_eq!(first.code, Some(0), "{}", first.stderr);
    let journal = job.journal();
    assert_eq!((journal.len(), journal[0]["action"].as_str()), (1, Some("promoted")));
    assert!(journal[0]["training"]["to"].as_str().is_some_and(|to| to < "2026-04-29"), "{}", journal[0]);

    // The same again: nothing is newer.
    let steady = job.round("62");
    assert_eq!(steady.code, Some(0), "{}", steady.stderr);
    assert!(steady.stderr.contains("not trained: 0 interactions are newer"), "{}", steady.stderr);
    assert_eq!(job.journal().len(), 1);

    // Weeks later, by fourteen days as shipped: churn and spend are judged seven days ahead, and what knows the new prices serves.
    let next = job.round("14");
    assert_eq!(next.code, Some(0), "{}", next.stderr);
    let drifted = next.stderr.contains("population stability index above 0.2: ") && next.stderr.contains("input behaviour.log_");
    assert!(drifted, "{}", next.stderr);
    assert!(next.stderr.contains("churn, spend and next_need were judged 7 days ahead"), "{}", next.stderr);
    let journal = job.journal();
    let promoted = journal.last().expect("a decision");
    assert_eq!((journal.len(), promoted["parent"].as_str()), (2, journal[0]["version"].as_str()));
    assert_eq!(promoted["training"]["parent"], journal[0]["version"], "it says which bundle it followed");
    let comparison = &promoted["judged"]["comparison"];
    assert_eq!(comparison["horizon_days"], 7);
    for (head, measure) in [("churn", "quadratic"), ("spend", "purchases"), ("spend", "amount")] {
        let judged = comparison["judged"].as_array().expect("a list").iter().find(|j| j["head"] == head && j["measure"] == measure);
        let judged = judged.unwrap_or_else(|| panic!("{head} by {measure} is not in {comparison}"));
        assert!(judged["n"].as_u64().is_some_and(|n| n > 20), "{judged}");
    }

    // A step that fails ends the round and names itself.
    fs::write(job.file("registry/registry.json"), "no journal\n").expect("a journal");
    let failed = job.round("14");
    assert!(failed.code == Some(1) && failed.stderr.contains("registry.json:1"), "{:?} {}", failed.code, failed.stderr);
}

/// A YAML file as JSON; `None` where no Python here reads YAML.
fn yaml(path: &Path, dir: &Path) -> Option<Value> {
    const READ: &str = "import json, sys, yaml; json.dump(yaml.safe_load(open(sys.argv[1])), sys.stdout)";
    [cache().join("venv/bin/python"), "python3".into()].iter().find_map(|python| {
        let works = Command::new(python).args(["-c", "import yaml"]).output().is_ok_and(|o| o.status.success());
        let mut command = Command::new(works.then_some(python)?);
        command.args(["-c", READ]).arg(path);
        let read = Process::spawn("yaml", command, dir).wait(PATIENCE);
        assert_eq!(read.code, Some(0), "{}: {}", path.display(), read.stderr);
        Some(serde_json::from_str(&read.stdout).expect("JSON"))
    })
}

#[test]
fn the_cron_job_and_the_compose_service_run_the_shipped_script() {
    let dir = tempfile::tempdir().expect("a folder");
    let read = |name: &str| yaml(&root().join(name), dir.path());
    let (Some(job), Some(compose)) = (read("deploy/retrain/cronjob.yaml"), read("docker-compose.yml")) else {
        eprintln!("SKIPPED: no Python that reads YAML: run `make deps`");
        return;
    };
    let script = fs::read_to_string(root().join("deploy/retrain/retrain.sh")).expect("the script");
    let dockerfile = fs::read_to_string(root().join("deploy/Dockerfile")).expect("the Dockerfile");
    let known = |name: &str| assert!(script.contains(&format!("{{{name}:")), "{name} is no variable of retrain.sh");

    assert_eq!((job["kind"].as_str(), job["spec"]["concurrencyPolicy"].as_str()), (Some("CronJob"), Some("Forbid")));
    assert_eq!(job["spec"]["schedule"].as_str().expect("a schedule").split(' ').count(), 5);
    let pod = &job["spec"]["jobTemplate"]["spec"]["template"]["spec"];
    let container = &pod["containers"][0];
    let path = container["command"][0].as_str().expect("a command");
    assert!(dockerfile.contains(&format!("COPY deploy/retrain/retrain.sh {path}")), "{path}");
    let variables: Vec<(&str, &str)> = container["env"]
        .as_array()
        .expect("variables")
        .iter()
        .map(|v| (v["name"].as_str().expect("a name"), v["value"].as_str().expect("a string")))
        .collect();
    variables.iter().for_each(|(name, _)| known(name));
    let mounts: Vec<&str> = container["volumeMounts"].as_array().expect("mounts").iter().filter_map(|m| m["mountPath"].as_str()).collect();
    for (name, value) in variables.iter().filter(|(_, value)| value.starts_with('/')) {
        assert!(mounts.iter().any(|m| value.starts_with(m)), "{name}={value} is on no volume");
    }
    let volumes: Vec<&Value> = pod["volumes"].as_array().expect("volumes").iter().map(|v| &v["name"]).collect();
    assert!(container["volumeMounts"].as_array().expect("mounts").iter().all(|m| volumes.contains(&&m["name"])));

    let services = &compose["services"];
    let retrain = &services["retrain"];
    assert_eq!((retrain["image"].as_str(), retrain["entrypoint"][0].as_str()), (container["image"].as_str(), Some(path)));
    assert_eq!(retrain["build"]["args"]["FEATURES"], "train");
    let environment = retrain["environment"].as_object().expect("variables");
    environment.keys().for_each(|name| known(name));
    // Where both name it they agree, and the script's default is the same.
    for (name, value) in &variables {
        assert_eq!(environment.get(*name).and_then(Value::as_str), Some(*value), "{name}");
    }
    assert!(script.contains("days=${RETRAIN_JUDGE_DAYS:-14}") && environment["RETRAIN_JUDGE_DAYS"] == "14");
    // `--profile retrain up` keeps the archive and starts no round; the round reads that archive and writes the registry that the service reads.
    assert_eq!(services["archive"]["profiles"], serde_json::json!(["retrain"]));
    assert!(retrain["profiles"].as_array().is_some_and(|p| !p.is_empty() && !p.contains(&"retrain".into())), "{retrain}");
    let mounted = |service: &str, volume: &str| {
        let all = services[service]["volumes"].as_array().expect("volumes");
        all.iter().any(|v| v.as_str().is_some_and(|v| v.starts_with(volume)))
    };
    assert!(mounted("retrain", "archive:/var/lib/rapport/archive") && mounted("archive", "archive:/var/lib/rapport/archive"));
    assert!(mounted("retrain", "models:/var/lib/rapport/models") && mounted("rapport", "models:/var/lib/rapport/models"));
    assert_eq!(services["archive"]["environment"]["RAPPORT_ARCHIVE_URL"], environment["RETRAIN_ARCHIVE"]);
    assert_eq!(services["rapport"]["environment"]["RAPPORT_MODEL_REGISTRY"], environment["RAPPORT_MODEL_REGISTRY"]);
}
