//! Importers on the published files, against counts that were made without them (named beside each), and on small files of every kind of fault.
//!
//! The published files are not part of the project; a test of one that is absent says so and passes.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rapport::import::{Sink, Summary, cdnow, chinese_reviews, clinc150, complete_journey, demo, jddc, multidogo, online_retail, ssa, uss};
use rapport::interaction::{Actor, DecodeOptions, Interaction, Label, LabelValue, decode};

use crate::process::{rapport, root};

/// A published file or folder, unless it is absent here.
fn shared(name: &str) -> Option<PathBuf> {
    let data = std::env::var_os("RAPPORT_SHARED_DATA").map_or_else(|| root().join("../shared/data"), PathBuf::from);
    let path = data.join(name);
    if !path.exists() {
        eprintln!("SKIPPED: {} is not here", path.display());
        return None;
    }
    Some(path)
}

/// What an import wrote, every line decoded, every id unique, every customer in order of time, every label of a written interaction.
struct Imported {
    interactions: Vec<Interaction>,
    labels: Vec<Label>,
    summary: Summary,
}

fn import(run: impl FnOnce(&mut Sink) -> anyhow::Result<()>) -> anyhow::Result<Imported> {
    let dir = tempfile::tempdir()?;
    let (out, labels) = (dir.path().join("out.jsonl"), dir.path().join("labels.jsonl"));
    let mut sink = Sink::create(Some(&out), Some(&labels))?;
    run(&mut sink)?;
    let summary = sink.finish()?;
    let lines = |path: &Path| fs::read_to_string(path).map(|text| text.lines().map(str::to_owned).collect::<Vec<_>>());
    let mut interactions = Vec::new();
    let (mut ids, mut latest) = (HashSet::new(), HashMap::new());
    for line in lines(&out)? {
        let decoded = decode(line.as_bytes(), DecodeOptions::default()).unwrap_or_else(|e| panic!("{line}: {e}"));
        assert_eq!(decoded.unknown_fields, 0, "{line}");
        let i = decoded.interaction;
        assert!(ids.insert(i.id.clone()), "id {} is written twice", i.id);
        let before = latest.insert(i.customer_id.clone(), i.occurred_at);
        assert!(before.is_none_or(|t| t <= i.occurred_at), "{} goes back in time at {}", i.customer_id, i.id);
        interactions.push(i);
    }
    let labels: Vec<Label> = lines(&labels)?.iter().map(|l| Label::decode(l.as_bytes()).unwrap_or_else(|e| panic!("{l}: {e}"))).collect();
    assert!(labels.iter().all(|l| ids.contains(&l.interaction_id)), "a label names no interaction");
    assert_eq!((summary.interactions, summary.labels), (interactions.len() as u64, labels.len() as u64));
    Ok(Imported { interactions, labels, summary })
}

impl Imported {
    fn counts(&self) -> (usize, usize, u64) {
        (self.interactions.len(), self.labels.len(), self.summary.skipped)
    }

    fn customers(&self) -> usize {
        self.interactions.iter().map(|i| &i.customer_id).collect::<HashSet<_>>().len()
    }

    /// Label classes of a task and how often each occurs; ratings as text.
    fn classes(&self, task: &str) -> HashMap<String, usize> {
        let mut classes = HashMap::new();
        for label in self.labels.iter().filter(|l| &*l.task == task) {
            let value = match &label.value {
                LabelValue::Rating(r) => r.to_string(),
                LabelValue::Class(c) => c.to_string(),
            };
            *classes.entry(value).or_default() += 1;
        }
        classes
    }
}

const PUBLISHED: uss::Options = uss::Options { from_turn: 4, each_rater: false, actions: false };

/// A file with this content, in a folder that lives as long as the test.
fn fixture(name: &str, content: &str) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join(name);
    fs::write(&path, content).expect("a file");
    (dir, path)
}

/// Turns: `zcat F | awk -F'\t' 'NF && $2 != "OVERALL"' | wc -l`. Rated turns: USER lines but the first three of each dialogue, by
/// `awk -F'\t' '!NF{u=0} $1=="USER" && $2!="OVERALL" && ++u>=4 && $4!=""'`.
#[test]
fn satisfaction_sets_give_the_turns_and_ratings_that_awk_counts() {
    for (file, dialogues, turns, rated) in [
        ("MWOZ.train", 800, 17698, 6848),
        ("MWOZ.valid", 100, 2204, 852),
        ("SGD.train", 800, 20548, 7874),
        ("SGD.valid", 100, 2548, 974),
        ("ReDial.train", 836, 17909, 6535),
        ("ReDial.valid", 82, 1760, 618),
        ("CCPE.train", 500, 11936, 4860),
    ] {
        let Some(path) = shared(&format!("uss/{file}.txt.gz")) else { continue };
        let imported = import(|sink| uss::import(&path, PUBLISHED, sink)).expect(file);
        assert_eq!((imported.customers(), imported.counts()), (dialogues, (turns, rated, 0)), "{file}");
    }
}

#[test]
fn ratings_are_means_and_the_overall_line_is_no_turn() {
    let text =
        "USER\tone\tA-B,C\t1,2\nSYSTEM\tsaid\tD\t\nUSER\t\t\t3,4,5\nUSER\tthree\t\t2\nUSER\tOVERALL\tOTHER\t5,5\n\n\nUSER\tnext\t\t3\n";
    let (_dir, path) = fixture("X.test.txt", text);
    let options = uss::Options { from_turn: 2, actions: true, ..PUBLISHED };
    let imported = import(|sink| uss::import(&path, options, sink)).expect("an import");
    let said: Vec<_> = imported.interactions.iter().map(|i| (&*i.id, i.actor, i.text.as_deref())).collect();
    assert_eq!(
        said,
        [
            ("x-test-00001-01", Actor::Customer, Some("one")),
            ("x-test-00001-02", Actor::Agent, Some("said")),
            ("x-test-00001-03", Actor::Customer, None),
            ("x-test-00001-04", Actor::Customer, Some("three")),
            ("x-test-00002-01", Actor::Customer, Some("next")),
        ]
    );
    let labels: Vec<_> = imported.labels.iter().map(|l| (&*l.interaction_id, &*l.task, l.value.clone())).collect();
    assert_eq!(
        labels,
        [
            ("x-test-00001-01", "action", LabelValue::Class("A-B".into())),
            ("x-test-00001-03", "satisfaction", LabelValue::Rating(4.0)),
            ("x-test-00001-04", "satisfaction", LabelValue::Rating(2.0)),
        ]
    );
    let each = uss::Options { each_rater: true, from_turn: 1, actions: false };
    let imported = import(|sink| uss::import(&path, each, sink)).expect("an import");
    assert_eq!(imported.labels.len(), 2 + 3 + 1 + 1);
}

/// Dialogues and exchanges by Python's own list reader; every exchange from a dialogue's fourth on is the last of one line.
#[test]
fn prefix_examples_become_whole_dialogues() {
    let Some(path) = shared("uss/JDDC.prefix-examples.txt.gz") else { return };
    let imported = import(|sink| jddc::import(&path, false, sink)).expect("an import");
    let customer_turns = imported.interactions.iter().filter(|i| i.actor == Actor::Customer).count();
    assert_eq!((imported.customers(), customer_turns, imported.counts()), (330, 5996, (9374, 5006, 0)));
    let classes = imported.classes("satisfaction");
    assert_eq!((classes["2"], classes["3"], classes["4"]), (1218, 2602, 1186), "cut -f3 | sort | uniq -c");
}

/// Rows and conversations by Python's csv module.
#[test]
fn multidogo_keeps_every_row_of_every_domain() {
    let Some(folder) = shared("multidogo") else { return };
    let mut files: Vec<PathBuf> = fs::read_dir(folder).expect("a folder").map(|e| e.expect("an entry").path()).collect();
    files.sort();
    let imported = import(|sink| files.iter().try_for_each(|path| multidogo::import(path, sink))).expect("an import");
    assert_eq!((files.len(), imported.customers(), imported.counts()), (18, 14147, (116_597, 116_597, 0)));
    assert!(imported.classes("intent").keys().all(|intent| !intent.contains("<div>")), "the first of several intents");
}

/// `zcat` of both years through Python's csv module: rows with a customer (0 is none), less those of 2010-12-01 to 09 in year 1.
#[test]
fn online_retail_counts_each_invoice_line_once() {
    let Some(folder) = shared("online_retail_ii") else { return };
    // Named in the wrong order on purpose.
    let files = ["year2_2010-12_2011-12_positive_rows.csv.gz", "year1_2009-12_2010-12.csv.gz"].map(|f| folder.join(f));
    let imported = import(|sink| online_retail::import(&files, sink)).expect("an import");
    assert_eq!(imported.counts(), (402_731 + 397_924, 0, 107_927 + 133_358 + 14_803));
    assert_eq!(imported.interactions.iter().filter(|i| &*i.kind == "return").count(), 9541, "rows whose invoice begins with C");
    assert!(imported.interactions.iter().all(|i| i.amount.is_some_and(|a| a >= 0.0)));
}

#[test]
fn returns_have_positive_amounts_and_overlapping_days_come_from_year_2() {
    let year_1 = "Invoice,StockCode,Description,Quantity,InvoiceDate,Price,Customer ID,Country\n\
        C1,22423,REGENCY CAKESTAND,-2,2010-11-30 09:00:00,4.15,17850.0,France\n\
        2,22423,REGENCY CAKESTAND,1,2010-12-01 08:26:00,4.15,17850.0,France\n\
        3,22423,REGENCY CAKESTAND,1,2010-11-30 10:00:00,4.15,,France\n\
        4,22423,REGENCY CAKESTAND,one,2010-11-30 11:00:00,4.15,17850.0,France\n\
        5,22423,too few columns\n";
    let (_dir, path) = fixture("year1.csv", year_1);
    let imported = import(|sink| online_retail::import(&[path], sink)).expect("an import");
    assert_eq!(imported.counts(), (1, 0, 4));
    let line = &imported.interactions[0];
    assert_eq!((&*line.kind, line.amount, line.quantity, line.currency.as_deref()), ("return", Some(8.3), Some(2.0), Some("GBP")));
    assert_eq!((&*line.customer_id, line.item.as_deref(), line.category.as_deref()), ("retail-17850", Some("22423"), Some("baking")));
}

/// By Python's csv module: distinct pairs of basket and category (or department) over the joined files, rows of campaigns, the sum of sales_value.
#[test]
fn complete_journey_sums_each_category_of_each_basket() {
    let Some(folder) = shared("complete_journey") else { return };
    let names = ["transactions", "products", "campaigns", "campaign_descriptions", "coupons", "coupon_redemptions", "demographics"];
    let files = names.map(|f| folder.join(format!("{f}.csv.gz")));
    let imported = import(|sink| complete_journey::import(&files, sink)).expect("an import");
    assert_eq!((imported.customers(), imported.counts()), (2_469, (1_083_180 + 6_589, 0, 0)));
    let purchases = || imported.interactions.iter().filter(|i| &*i.kind == "purchase");
    assert_eq!(purchases().filter(|i| i.category.is_none()).count(), 4_498);
    assert_eq!(purchases().filter_map(|i| i.category.as_deref()).collect::<HashSet<_>>().len(), 304);
    let amount: f64 = purchases().filter_map(|i| i.amount).sum();
    assert!((amount - 4_596_039.58).abs() < 0.5, "{amount}");
}

#[test]
fn baskets_are_joined_with_categories_and_campaigns_come_in_their_time() {
    let dir = tempfile::tempdir().expect("a folder");
    let file = |name: &str, content: &str| {
        let path = dir.path().join(name);
        fs::write(&path, content).expect("a file");
        path
    };
    let columns = "household_id,store_id,basket_id,product_id,quantity,sales_value,retail_disc,coupon_disc,coupon_match_disc,week";
    let transactions = file(
        "t.csv",
        &format!(
            "{columns},transaction_timestamp\n\
             7,330,100,1,1,0.1,0,0,0,1,2017-01-01 11:53:26\n\
             7,330,100,2,2,3.5,0,0,0,1,2017-01-01 11:53:26\n\
             7,330,100,3,1,0.2,0,0,0,1,2017-01-01 11:53:26\n\
             7,330,100,9,1,1.0,0,0,0,1,2017-01-01 11:53:26\n\
             8,330,101,4,1,2.0,0,0,0,1,2017-03-03 10:00:00\n\
             8,330,101,4,one,2.0,0,0,0,1,2017-03-03 10:00:00\n"
        ),
    );
    let products = file(
        "p.csv",
        "product_id,manufacturer_id,department,brand,product_category,product_type,package_size\n\
         1,2,GROCERY,National,BREAD,,\n2,2,MEAT,National,BEEF,,\n3,2,GROCERY,National,BREAD,,\n4,2,MISCELLANEOUS,National,,,\n",
    );
    let campaigns = file("c.csv", "campaign_id,household_id\n1,8\n2,7\n3,7\n");
    let described =
        file("d.csv", "campaign_id,campaign_type,start_date,end_date\n1,Type B,2017-03-03,2017-04-09\n2,Type A,2018-01-01,2018-02-01\n");
    let paths = [products.clone(), described, transactions.clone(), campaigns.clone()];
    let imported = import(|sink| complete_journey::import(&paths, sink)).expect("an import");
    assert_eq!(imported.counts(), (6, 0, 2));
    let said: Vec<_> =
        imported.interactions.iter().map(|i| (&*i.id, &*i.customer_id, &*i.kind, i.category.as_deref(), i.amount, i.quantity)).collect();
    assert_eq!(
        said,
        [
            ("journey-100-001", "journey-7", "purchase", Some("BEEF"), Some(3.5), Some(2.0)),
            ("journey-100-002", "journey-7", "purchase", None, Some(1.0), Some(1.0)),
            ("journey-100-003", "journey-7", "purchase", Some("BREAD"), Some(0.3), Some(2.0)),
            ("journey-campaign-1-8", "journey-8", "campaign", None, None, None),
            ("journey-101-001", "journey-8", "purchase", Some("MISCELLANEOUS"), Some(2.0), Some(1.0)),
            ("journey-campaign-2-7", "journey-7", "campaign", None, None, None),
        ]
    );
    assert_eq!(imported.interactions[3].actor, Actor::System);
    for (paths, word) in [
        (vec![transactions.clone()], "are both needed"),
        (vec![transactions.clone(), products.clone(), campaigns], "name both campaigns.csv"),
        (vec![transactions.clone(), products, transactions], "are the same part"),
    ] {
        let error = import(|sink| complete_journey::import(&paths, sink)).err().expect("refused").to_string();
        assert!(error.contains(word), "{error}");
    }
}

/// `jq 'map_values(length)'` and, for the intents, `jq '[.[][][1]] | unique | length'`.
#[test]
fn clinc150_gives_every_text_of_the_named_splits() {
    let Some(path) = shared("clinc150/data_full.json.gz") else { return };
    let all = import(|sink| clinc150::import(&path, &[], sink)).expect("an import");
    assert_eq!((all.counts(), all.classes("intent").len()), ((15_000 + 3_000 + 4_500 + 100 + 100 + 1_000, 23_700, 0), 151));
    let splits = ["val".to_owned(), "oos_val".to_owned()];
    let part = import(|sink| clinc150::import(&path, &splits, sink)).expect("an import");
    assert_eq!((part.counts(), part.classes("intent")["oos"]), ((3_100, 3_100, 0), 100));
    let error = import(|sink| clinc150::import(&path, &["dev".to_owned()], sink)).err().expect("no such split").to_string();
    assert!(error.contains("no split \"dev\"") && error.contains("oos_train"), "{error}");
}

/// Rows by Python's csv module; one review is empty.
#[test]
fn chinese_reviews_keep_their_sentiment() {
    let Some(path) = shared("chinese_reviews/online_shopping_9_cats.csv.gz") else { return };
    let imported = import(|sink| chinese_reviews::import(&path, sink)).expect("an import");
    assert_eq!(imported.counts(), (52_773, 52_773, 1));
    assert_eq!(imported.interactions[0].category.as_deref(), Some("书籍"));
    assert!(imported.interactions.iter().all(|i| !i.text.as_deref().unwrap_or_default().starts_with('\u{feff}')));
}

/// Turns: lines with four fields (`awk -F'\t' 'NF==4'`), sessions: lines with one.
#[test]
fn session_sets_label_their_last_turn() {
    let Some(path) = shared("ssa_taobao/makeup.zip") else { return };
    let imported = import(|sink| ssa::import(&path, sink)).expect("an import");
    let (turns, sessions) = (76_080 + 9_151 + 9_215, 2_832 + 354 + 354);
    assert_eq!((imported.customers(), imported.counts()), (sessions, (turns, turns + sessions, 0)));
    assert_eq!(imported.classes("satisfaction"), HashMap::from(["1", "3", "5"].map(|r| (r.to_owned(), 944 + 118 + 118))));
    assert_eq!(imported.classes("sentiment")["negative"], 5_002 + 719 + 674);
    // The label stands at the last turn of its session.
    let last: HashMap<_, _> = imported.interactions.iter().map(|i| (&i.customer_id, &i.id)).collect();
    let ends: HashSet<_> = last.values().collect();
    assert!(imported.labels.iter().filter(|l| &*l.task == "satisfaction").all(|l| ends.contains(&&l.interaction_id)));
}

/// `wc -l` and `awk '{print $1}' | sort -u | wc -l`.
#[test]
fn cdnow_gives_one_purchase_a_day() {
    let Some(path) = shared("cdnow/CDNOW_sample.txt") else { return };
    let imported = import(|sink| cdnow::import(&path, sink)).expect("an import");
    // 6,919 lines, of which 223 are of a customer and day that has had one.
    assert_eq!((imported.customers(), imported.counts()), (2_357, (6_696, 0, 0)));
    let first = &imported.interactions[0];
    assert_eq!((first.amount, first.quantity, first.occurred_at.to_string().as_str()), (Some(29.33), Some(2.0), "1997-01-01T00:00:00Z"));
}

#[test]
fn cdnow_lines_of_one_day_are_one_purchase() {
    let lines = " 00001 0001 19970113 10  166.89\n 00001 0001 19970113  4   60.25\n 00001 0001 nonsense 1 1.0\n 00001 0001 19970113  1    0.10\n\
                 00001 0001 19970114  1    9.99\n 00002 0002 19970114  2   20.02\n";
    let (_dir, path) = fixture("cdnow.txt", lines);
    let imported = import(|sink| cdnow::import(&path, sink)).expect("an import");
    let found: Vec<_> = imported.interactions.iter().map(|i| (&*i.id, i.quantity, i.amount)).collect();
    let expected = [
        ("cdnow-00001-001", Some(15.0), Some(227.24)),
        ("cdnow-00001-002", Some(1.0), Some(9.99)),
        ("cdnow-00002-001", Some(2.0), Some(20.02)),
    ];
    assert_eq!(found, expected);
}

#[test]
fn a_file_of_another_set_is_refused_with_what_was_expected() {
    type Importer = fn(&Path, &mut Sink) -> anyhow::Result<()>;
    let importers: [(&str, Importer); 9] = [
        ("Complete Journey", |path, sink| complete_journey::import(&[path.to_owned()], sink)),
        ("Simulation", |path, sink| uss::import(path, PUBLISHED, sink)),
        ("JDDC", |path, sink| jddc::import(path, false, sink)),
        ("MultiDoGO", multidogo::import),
        ("Online Retail", |path, sink| online_retail::import(&[path.to_owned()], sink)),
        ("CLINC150", |path, sink| clinc150::import(path, &[], sink)),
        ("Chinese", chinese_reviews::import),
        ("SSA", ssa::import),
        ("CDNOW", cdnow::import),
    ];
    let (_dir, strange) = fixture("strange.txt", "name;city\nAnn;Oslo\n");
    let (_dir2, empty) = fixture("empty.txt", "");
    for (set, importer) in importers {
        for path in [&strange, &empty] {
            let error = import(|sink| importer(path, sink)).err().unwrap_or_else(|| panic!("{set} took {}", path.display()));
            let message = format!("{error:#}");
            assert!(message.contains(set) && message.contains("no file of"), "{message}");
        }
    }
}

/// The command as users call it: a CSV with every kind of fault, its messages and its exit codes.
#[test]
fn csv_is_mapped_sorted_and_its_faults_are_named() {
    let csv = "ref;who;when;note;stars;spent\n\
        a;c1;24.12.2020 10:00;second;4;\n\
        ;c1;23.12.2020 09:30;first;;12.5\n\
        b;;23.12.2020 09:30;nobody;3;\n\
        c;c2;yesterday;no time;3;\n\
        d;c2;23.12.2020 09:30;bad number;3;lots\n\
        e;c2;23.12.2020 09:30;negative;3;-1\n\
        f;c2;23.12.2020 09:30;bad label;9;1\n\
        g;c2\n";
    let (dir, path) = fixture("calls.csv", csv);
    let (out, labels) = (dir.path().join("out.jsonl"), dir.path().join("labels.jsonl"));
    let base = |more: &[&str]| {
        let fixed = ["import", "csv", path.to_str().expect("a path"), "--delimiter", ";", "--set", "kind=call", "--map", "customer_id=who"];
        let outs = ["--out", out.to_str().expect("a path"), "--labels", labels.to_str().expect("a path")];
        rapport(dir.path(), fixed.iter().chain(&outs).chain(more), Duration::from_secs(60))
    };
    let mapped =
        ["--map", "occurred_at=when", "--map", "text=note", "--map", "amount=spent", "--map", "id=ref", "--map", "attributes.note=note"];
    let format = ["--time-format", "%d.%m.%Y %H:%M", "--label", "satisfaction=stars"];
    let done = base(&[&mapped[..], &format[..]].concat());
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    assert!(done.stderr.ends_with("3 interactions, 1 labels, 6 rows skipped\n"), "{}", done.stderr);
    for fault in [
        "calls.csv:4: skipped: customer_id is empty",
        "calls.csv:5: skipped: occurred_at \"yesterday\" is not of the form \"%d.%m.%Y %H:%M\"",
        "calls.csv:6: skipped: amount \"lots\" is no number",
        "calls.csv:7: skipped: invalid_field: amount",
        "calls.csv:8: skipped: label: invalid_field: value",
        "further skipped rows are only counted",
    ] {
        assert!(done.stderr.contains(fault), "{fault:?} is not in\n{}", done.stderr);
    }
    let written = fs::read_to_string(&out).expect("interactions");
    let ids: Vec<String> =
        written.lines().map(|l| decode(l.as_bytes(), DecodeOptions::default()).expect(l).interaction.id.to_string()).collect();
    assert_eq!(ids, ["calls-0000003", "f", "a"], "in order of time, a missing id made of file and line");
    assert!(written.contains(r#""occurred_at":"2020-12-23T09:30:00Z""#), "{written}");
    assert_eq!(fs::read_to_string(&labels).expect("labels"), "{\"interaction_id\":\"a\",\"task\":\"satisfaction\",\"value\":4.0}\n");

    for (more, code, message) in [
        (vec!["--map", "occurred_at=date"], 2, "has no column \"date\" for occurred_at; it has ref, who, when"),
        (vec![], 2, "occurred_at is missing; add --map occurred_at=COLUMN"),
        (vec!["--map", "occurred_at=when", "--map", "colour=note"], 2, "\"colour\" is no field of an interaction"),
        (vec!["--map", "occurred_at=when", "--set", "kind=visit"], 2, "kind is given twice"),
        (vec!["--map", "occurred_at=when", "--label", "churn=stars"], 2, "is the name of a score field"),
        (vec!["--map", "occurred_at=when", "--label", "stars"], 2, "it should be NAME=VALUE"),
        (vec!["--map", "occurred_at=when"], 1, "gave not one interaction"),
    ] {
        let failed = base(&more);
        assert_eq!(failed.code, Some(code), "{more:?}: {}", failed.stderr);
        assert!(failed.stderr.contains(message), "{more:?}: {message:?} is not in\n{}", failed.stderr);
        if code == 2 {
            assert_eq!(fs::read_to_string(&out).expect("interactions"), written, "{more:?}: what was there before stays");
        }
    }
    let absent = rapport(dir.path(), ["import", "cdnow", "/no/such/file"], Duration::from_secs(60));
    assert_eq!((absent.code, absent.stderr.contains("/no/such/file is no file")), (Some(2), true), "{}", absent.stderr);
}

/// The file that ships is what its command makes.
#[test]
fn the_bundled_interactions_can_be_made_again() {
    let (Some(multidogo), Some(retail)) = (shared("multidogo"), shared("online_retail_ii")) else { return };
    let dir = tempfile::tempdir().expect("a folder");
    let made = dir.path().join("interactions.jsonl.gz");
    let mut sink = Sink::create(Some(&made), None).expect("a sink").in_order_of_time();
    demo::import(&multidogo, &retail, 1, &mut sink).expect("an import");
    let summary = sink.finish().expect("written");
    assert!(summary.interactions >= 5_000, "{summary:?}");
    let text = |path: &Path| {
        let mut text = String::new();
        let file = fs::File::open(path).expect("a file");
        std::io::Read::read_to_string(&mut flate2::read::GzDecoder::new(file), &mut text).expect("gzip");
        text
    };
    let shipped = text(&root().join("deploy/demo/interactions.jsonl.gz"));
    assert!(text(&made) == shipped, "deploy/demo/interactions.jsonl.gz is not what `rapport import demo` makes");
}
