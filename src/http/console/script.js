"use strict";
// One page, no libraries. Text from records reaches the page as text nodes alone.
const $ = (id) => document.getElementById(id);
const SVG = "http://www.w3.org/2000/svg";
const KEEP = 400;            // episodes kept in the list
const BACKLOG = 300;         // alert transitions asked for at the start
const SILENCE = 40000;       // ms without a byte after which the stream counts as lost (the server speaks every 15 s)
const KINDS = { satisfaction_low: "Satisfaction is low", satisfaction_drop: "Satisfaction dropped", rating_low: "Gave a low rating", churn_risk: "Likely to leave" };
const state = { token: sessionStorage.getItem("rapport-token"), lastId: null, episodes: new Map(), filter: "open", query: "", customer: null, alert: null, paused: false };

// ---------- small helpers
function h(name, props, ...children) {
  const svg = name.startsWith("svg:");
  const el = svg ? document.createElementNS(SVG, name.slice(4)) : document.createElement(name);
  for (const [key, value] of Object.entries(props || {})) {
    if (value === null || value === undefined || value === false) continue;
    if (key.startsWith("on")) el.addEventListener(key.slice(2), value);
    else if (key === "dataset") Object.assign(el.dataset, value);
    else el.setAttribute(key, value === true ? "" : value);
  }
  for (const child of children.flat()) if (child !== null && child !== undefined && child !== false) el.append(child);
  return el;
}
const words = (name) => (name || "other").replaceAll("_", " ");
const title = (kind) => KINDS[kind] || (words(kind).charAt(0).toUpperCase() + words(kind).slice(1));
const onScale = (kind) => /^(satisfaction|rating)/.test(kind || "");
const num = (x, digits = 1) => (typeof x === "number" && isFinite(x) ? x.toFixed(digits) : "–");
function compact(n) {
  if (!isFinite(n)) return "–";
  return n < 10000 ? Math.round(n).toLocaleString("en") : Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 }).format(n);
}
function seconds(s) {
  if (!isFinite(s)) return "–";
  return s < 0.001 ? "<1 ms" : s < 1 ? `${Math.round(s * 1000)} ms` : s < 100 ? `${s.toFixed(1)} s` : `${Math.round(s / 60)} min`;
}
function when(text) {
  const time = new Date(text);
  if (isNaN(time)) return text || "";
  const ago = (Date.now() - time) / 60000;
  if (ago >= 0 && ago < 1) return "just now";
  if (ago >= 0 && ago < 60) return `${Math.round(ago)} min ago`;
  const date = { day: "numeric", month: "short", hour: "2-digit", minute: "2-digit" };
  if (time.getFullYear() !== new Date().getFullYear()) date.year = "numeric";
  return time.toLocaleString("en-GB", date);
}
const stamp = (text) => h("time", { class: "when", datetime: text, title: text }, when(text));

// ---------- the API
class Refused extends Error {}
async function api(path, options = {}) {
  const headers = { ...(options.headers || {}) };
  if (state.token) headers.authorization = `Bearer ${state.token}`;
  const response = await fetch(path, { ...options, headers, cache: "no-store" });
  if (response.status === 401) { askToken(); throw new Refused("token"); }
  return response;
}
async function problem(response) {
  try { return (await response.json()).error; } catch { return `the service answered ${response.status}`; }
}

// ---------- alerts: one stream, resumed where it broke
const wait = (ms) => new Promise((done) => setTimeout(done, ms));
function link(name, text) {
  if ($("link").dataset.state === name) return;
  $("link").dataset.state = name;
  $("link").textContent = text;
}
async function follow() {
  let pause = 1000;
  for (;;) {
    while (state.paused) await wait(300);
    const abort = new AbortController();
    let heard = Date.now();
    const watch = setInterval(() => { if (Date.now() - heard > SILENCE) abort.abort(); }, 5000);
    try {
      const headers = state.lastId === null ? {} : { "last-event-id": state.lastId };
      const response = await api(`/v1/alerts?last=${BACKLOG}`, { headers, signal: abort.signal });
      if (!response.ok) throw new Error(await problem(response));
      const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
      let rest = "", fresh = state.lastId !== null;
      for (;;) {
        const { done, value } = await reader.read();
        if (done) break;
        heard = Date.now(); pause = 1000;
        link("live", "Live");
        const parts = (rest + value).split("\n\n");
        rest = parts.pop();
        for (const part of parts) take(part, fresh);
        // What came with the first answer is history; what comes later is news.
        setTimeout(() => { fresh = true; }, 1500);
        render();
      }
      link("lost", "Reconnecting");
    } catch (e) {
      if (e instanceof Refused) { await wait(300); continue; }
      link("lost", e instanceof TypeError || e.name === "AbortError" ? "Disconnected" : "No alerts");
      if (!(e instanceof TypeError) && e.name !== "AbortError") banner(`Alerts: ${e.message}`);
    } finally { clearInterval(watch); abort.abort(); }
    await wait(pause);
    pause = Math.min(pause * 2, 15000);
  }
}
function take(part, fresh) {
  let id = null; const data = [];
  for (const line of part.split("\n")) {
    if (line.startsWith("id: ")) id = line.slice(4);
    else if (line.startsWith("data: ")) data.push(line.slice(6));
  }
  if (!data.length) return;
  let alert;
  try { alert = JSON.parse(data.join("\n")); } catch { return; }
  state.lastId = id;
  const episode = state.episodes.get(alert.id) || { id: alert.id, steps: [], card: null };
  if (episode.steps.some((s) => s.state === alert.state)) return;
  episode.steps.push(alert);
  episode.fresh = fresh;
  episode.dirty = true;
  state.episodes.delete(alert.id);
  state.episodes.set(alert.id, episode);                 // newest last
  if (state.episodes.size > KEEP) {
    const [oldest, gone] = state.episodes.entries().next().value;
    state.episodes.delete(oldest);
    if (gone.card) gone.card.remove();
  }
  if (fresh && alert.state !== "resolved") $("announce").textContent = `${alert.severity}: ${title(alert.kind)}, customer ${alert.customer_id}`;
  if (alert.customer_id === state.customer) later(() => visit(state.customer, state.alert, true));
}
let pending = null;
function later(work) { clearTimeout(pending); pending = setTimeout(work, 400); }
const latest = (episode) => episode.steps[episode.steps.length - 1];
const raisedBy = (episode) => episode.steps.find((s) => s.reasons && s.reasons.length) || episode.steps[0];
const tone = (alert) => (alert.state === "resolved" ? "good" : alert.severity === "critical" ? "critical" : "warning");

function shown(episode) {
  const alert = latest(episode);
  if (state.query && !alert.customer_id.toLowerCase().includes(state.query)) return false;
  if (state.filter === "open") return alert.state !== "resolved";
  if (state.filter === "critical") return alert.state !== "resolved" && alert.severity === "critical";
  return state.filter === "all" || alert.state === "resolved";
}
function tagFor(alert) {
  const text = alert.state === "resolved" ? "✓ Resolved" : alert.severity === "critical" ? "▲ Critical" : "● Warning";
  return h("span", { class: "tag", dataset: { tone: tone(alert) } }, text);
}
function meter(value, baseline) {
  const x = (v) => 5 + (Math.min(5, Math.max(1, v)) - 1) * 60;
  const known = typeof baseline === "number";
  return h("div", { class: "meter" },
    h("span", {}, h("b", {}, num(value)), known ? ` of 5 · usually ${num(baseline)}` : " of 5"),
    h("svg:svg", { viewBox: "0 0 250 18", "aria-hidden": "true" },
      h("svg:line", { class: "track", x1: 5, x2: 245, y1: 9, y2: 9 }),
      known && h("svg:line", { class: value < baseline ? "gap" : "gap up", x1: x(value), x2: x(baseline), y1: 9, y2: 9 }),
      known && h("svg:line", { class: "base", x1: x(baseline), x2: x(baseline), y1: 2, y2: 16 }),
      h("svg:circle", { class: "dot", cx: x(value), cy: 9, r: 5 })));
}
function weighing(alert, most) {
  const all = new Map();
  for (const reason of alert.reasons || []) for (const w of reason.words || []) all.set(w.word, Math.max(all.get(w.word) || 0, w.weight));
  const top = [...all].sort((a, b) => b[1] - a[1]).slice(0, most);
  if (!top.length) return null;
  const most1 = Math.max(...top.map((t) => Math.abs(t[1])), 1e-9);
  return h("div", { class: "words" }, h("span", { class: "lead" }, "because of"), top.map(([word, weight]) => marked(word, Math.abs(weight) / most1)));
}
function marked(text, share) {
  const el = h("mark", {}, text);
  el.style.setProperty("--w", (0.14 + 0.36 * share).toFixed(2));
  return el;
}
function fill(card, episode) {
  const alert = latest(episode), raised = raisedBy(episode);
  card.dataset.tone = tone(alert);
  card.classList.toggle("new", Boolean(episode.fresh));
  card.replaceChildren(...[
    h("div", { class: "row" }, tagFor(alert), h("span", { class: "grow" }, title(alert.kind), alert.state === "escalated" ? h("span", { class: "soft" }, " · got worse") : null), stamp(alert.at)),
    h("p", { class: "who" }, alert.customer_id),
    (alert.also || []).length ? h("p", { class: "soft" }, `Also: ${alert.also.map((k) => title(k).toLowerCase()).join(", ")}`) : null,
    onScale(alert.kind) ? meter(alert.value, alert.baseline) : h("p", { class: "soft" }, `${num(alert.value, 2)} against ${num(alert.baseline, 2)}`),
    weighing(raised, 5),
    alert.suggestion && alert.suggestion !== "other" ? h("p", { class: "suggest" }, "Probably needs: ", h("b", {}, words(alert.suggestion))) : null,
  ].filter(Boolean));
}
let drawing = false;
function render() {
  if (drawing) return;
  drawing = true;
  requestAnimationFrame(() => {
    drawing = false;
    const list = $("alerts");
    let n = 0, next = null;
    for (const episode of state.episodes.values()) {      // oldest first, each put before the one that came before it
      if (!episode.card) {
        const button = h("button", { class: "card", type: "button", onclick: () => visit(latest(episode).customer_id, episode.id) });
        episode.card = h("li", {}, button);
        episode.button = button;
      }
      if (episode.dirty) { fill(episode.button, episode); episode.dirty = false; }
      const visible = shown(episode);
      episode.card.hidden = !visible;
      if (visible) n += 1;
      episode.button.setAttribute("aria-current", String(episode.id === state.alert));
      if (episode.card.parentNode !== list || episode.card.nextSibling !== next) list.insertBefore(episode.card, next);
      next = episode.card;
    }
    $("count").textContent = n || "";
    $("none").hidden = n > 0;
    $("alerts").hidden = n === 0;
    if (!n) {
      const lost = $("link").dataset.state === "lost";
      const other = state.episodes.size > 0;
      const [head, body] = lost ? ["Not connected.", "The list fills again as soon as the service answers."]
        : other ? ["Nothing here.", "No alert matches this filter."] : ["No alerts.", "Customers who become unhappy appear here as it happens."];
      $("none-text").replaceChildren(h("strong", {}, head), h("br"), body);
    }
    const open = [...state.episodes.values()].filter((e) => latest(e).state !== "resolved").length;
    document.title = open ? `(${open}) rapport` : "rapport";
  });
}

// ---------- one customer
async function visit(customer, alertId = null, quietly = false) {
  state.customer = customer; state.alert = alertId;
  render();
  let view = null, failure = null;
  try {
    const response = await api(`/v1/customers/${encodeURIComponent(customer)}`);
    if (response.ok) view = await response.json(); else failure = await problem(response);
  } catch (e) { if (e instanceof Refused) return; failure = "the service does not answer"; }
  if (state.customer !== customer) return;
  const at = $("detail").scrollTop;
  draw(customer, view, failure);
  if (quietly) $("detail").scrollTop = at; else { $("detail").scrollTop = 0; $("detail").focus({ preventScroll: innerWidth > 900 }); }
}
function draw(customer, view, failure) {
  const episodes = [...state.episodes.values()].filter((e) => latest(e).customer_id === customer).reverse();
  const past = view ? view.window : [];
  const body = [h("header", {}, h("h2", { id: "who" }, customer), view && view.last_at ? h("span", { class: "soft" }, "last seen ", stamp(view.last_at)) : null)];
  if (failure) body.push(h("p", { class: "soft" }, `No details of this customer: ${failure}.`));
  if (view) {
    const last = [...past].reverse().find((p) => p.satisfaction);
    const s = last && last.satisfaction;
    body.push(h("dl", { class: "facts" },
      s && h("div", {}, h("dt", {}, "Satisfaction now"), h("dd", {}, num(s.value), h("small", {}, " of 5"))),
      typeof view.baseline === "number" && h("div", {}, h("dt", {}, "Usually"), h("dd", {}, num(view.baseline), h("small", {}, " of 5"))),
      s && h("div", {}, h("dt", {}, "Dissatisfied"), h("dd", {}, `${Math.round(s.dissatisfied * 100)} %`)),
      last && last.intent && last.intent.length ? h("div", {}, h("dt", {}, "Probably wants"), h("dd", {}, words(last.intent[0].label), h("small", {}, ` ${Math.round(last.intent[0].probability * 100)} %`))) : null,
      h("div", {}, h("dt", {}, "Interactions"), h("dd", {}, compact(view.interactions)))));
    const figure = chart(past, view.baseline, episodes);
    if (figure) body.push(figure);
  }
  if (episodes.length) body.push(h("h3", {}, "Alerts"), ...episodes.map((e) => story(e, past)));
  if (past.length) {
    const hot = weights(episodes);
    body.push(h("h3", {}, past.length < (view.interactions || 0) ? `Last ${past.length} interactions` : "Interactions"),
      h("ol", { class: "past" }, [...past].reverse().map((p) => line(p, hot.get(p.interaction_id)))));
  }
  $("detail-body").replaceChildren(...body.filter(Boolean));
}
/** Word weights of each interaction that an alert gave as a reason. */
function weights(episodes) {
  const all = new Map();
  for (const e of episodes) for (const step of e.steps) for (const reason of step.reasons || []) {
    const words = all.get(reason.interaction_id) || new Map();
    for (const w of reason.words || []) words.set(w.word.toLowerCase(), Math.max(Math.abs(w.weight), words.get(w.word.toLowerCase()) || 0));
    all.set(reason.interaction_id, words);
  }
  return all;
}
/** A text with its weighing words highlighted. */
function highlighted(text, weights) {
  if (!weights || !weights.size) return [text];
  const most = Math.max(...weights.values(), 1e-9);
  const escaped = [...weights.keys()].sort((a, b) => b.length - a.length).map((w) => w.replace(/[.*+?^${}()|[\]\\]/g, "\\$&"));
  const bounded = escaped.map((w) => (/^[\p{Script=Han}\p{Script=Hiragana}\p{Script=Katakana}]/u.test(w) ? w : `(?<![\\p{L}\\p{N}])${w}(?![\\p{L}\\p{N}])`));
  const pieces = text.split(new RegExp(`(${bounded.join("|")})`, "giu"));
  return pieces.map((piece, i) => (i % 2 ? marked(piece, (weights.get(piece.toLowerCase()) || 0) / most) : piece));
}
function story(episode, past) {
  const alert = latest(episode), raised = raisedBy(episode);
  const quotes = (raised.reasons || []).filter((reason) => (reason.words || []).length || past.some((p) => p.interaction_id === reason.interaction_id && p.text)).slice(0, 4).map((reason) => {
    const source = past.find((p) => p.interaction_id === reason.interaction_id);
    const its = new Map((reason.words || []).map((w) => [w.word.toLowerCase(), Math.abs(w.weight)]));
    const text = source && source.text;
    const head = [source ? `${words(source.kind)} · ` : `${reason.interaction_id} · `, source ? stamp(source.occurred_at) : null, reason.weight > 0 ? ` · lowers satisfaction by ${num(reason.weight, 2)}` : ""];
    const most = Math.max(...its.values(), 1e-9);
    const content = text ? highlighted(text, its) : [...its].map(([w, x]) => [marked(w, x / most), " "]).flat();
    return h("blockquote", { class: "quote" }, h("span", { class: "when" }, head.filter(Boolean)), content.length ? content : h("span", { class: "soft" }, "no words"));
  });
  return h("article", { class: "episode" },
    h("div", { class: "row" }, tagFor(alert), h("strong", { class: "grow" }, title(alert.kind)), stamp(alert.at)),
    onScale(alert.kind) ? meter(alert.value, alert.baseline) : null,
    h("p", { class: "suggest" }, episode.steps.map((s) => `${s.state} ${when(s.at)}`).join(" → "), ` · policy ${alert.policy}`),
    alert.suggestion && alert.suggestion !== "other" ? h("p", { class: "suggest" }, "Probably needs: ", h("b", {}, words(alert.suggestion))) : null,
    quotes);
}
function line(p, hot) {
  const about = [];
  if (p.text) about.push(...highlighted(p.text, hot));
  const facts = [p.rating ? `rated ${num(p.rating, p.rating % 1 ? 1 : 0)} of 5` : null, p.amount ? `amount ${num(p.amount, 2)}` : null, p.channel ? `by ${words(p.channel)}` : null, p.category].filter(Boolean).join(" · ");
  if (facts) about.push(h("span", { class: "soft" }, about.length ? ` · ${facts}` : facts));
  return h("li", { class: hot && hot.size ? "hot" : null }, stamp(p.occurred_at),
    h("span", { class: "soft" }, `${words(p.kind)}${p.actor && p.actor !== "customer" ? ` (${p.actor})` : ""}`),
    h("span", { class: "text" }, about.length ? about : h("span", { class: "soft" }, p.words ? `${p.words} words, no longer kept` : "–")),
    h("span", { class: "value" }, p.satisfaction ? num(p.satisfaction.value) : ""));
}
/** Satisfaction over the window: interactions evenly spaced (bursts would hide each other on a time axis), their times in the tooltips. */
function chart(past, baseline, episodes) {
  const points = past.filter((p) => p.satisfaction);
  if (points.length < 2) return null;
  const W = 820, H = 220, L = 28, R = 10, T = 10, B = 24;
  const x = (i) => L + (W - L - R) * (i / (points.length - 1)), y = (v) => T + (H - T - B) * ((5 - v) / 4);
  const raised = new Set(episodes.flatMap((e) => e.steps.filter((s) => s.state !== "resolved").map((s) => s.interaction_id)));
  const path = (of) => points.map((p, i) => `${i ? "L" : "M"}${x(i).toFixed(1)} ${y(of(p)).toFixed(1)}`).join("");
  const svg = h("svg:svg", { class: "chart", viewBox: `0 0 ${W} ${H}`, role: "img", "aria-label": `Satisfaction over the last ${points.length} interactions, from ${num(points[0].satisfaction.value)} to ${num(points[points.length - 1].satisfaction.value)} of 5` },
    h("svg:rect", { class: "low", x: L, width: W - L - R, y: y(3), height: y(1) - y(3) }),
    [1, 2, 3, 4, 5].map((v) => [h("svg:line", { class: "grid", x1: L, x2: W - R, y1: y(v), y2: y(v) }), h("svg:text", { x: L - 10, y: y(v) + 4, "text-anchor": "end" }, String(v))]).flat(),
    h("svg:path", { class: "base", d: path((p) => p.satisfaction.baseline ?? baseline ?? 3) }),
    h("svg:path", { class: "line", d: path((p) => p.satisfaction.value) }),
    points.map((p, i) => h("svg:circle", { cx: x(i), cy: y(p.satisfaction.value), r: raised.has(p.interaction_id) ? 5.5 : 4, class: raised.has(p.interaction_id) ? "hot" : p.actor === "customer" ? null : "other", tabindex: 0 },
      h("svg:title", {}, `${num(p.satisfaction.value, 2)} · ${words(p.kind)}${p.actor !== "customer" ? ` (${p.actor})` : ""} · ${when(p.occurred_at)}${p.text ? `\n${p.text}` : ""}`))),
    h("svg:text", { x: L, y: H - 5 }, when(points[0].occurred_at)),
    h("svg:text", { x: W - R, y: H - 5, "text-anchor": "end" }, when(points[points.length - 1].occurred_at)));
  return h("figure", {}, h("h3", {}, "Satisfaction"), svg,
    h("figcaption", { class: "legend" }, h("span", {}, h("i"), "estimated"), h("span", {}, h("i", { class: "dash" }), "usual level"), h("span", {}, h("i", { class: "ring" }), "not by the customer"), h("span", {}, h("i", { class: "hot" }), "raised an alert")));
}

// ---------- the strip, from /metrics
function parse(text) {
  const all = new Map();
  for (const row of text.split("\n")) {
    const m = /^(\w+)(?:\{(.*)\})? (\S+)$/.exec(row);
    if (!m) continue;
    const labels = {};
    for (const [, k, v] of (m[2] || "").matchAll(/(\w+)="((?:[^"\\]|\\.)*)"/g)) labels[k] = v;
    if (!all.has(m[1])) all.set(m[1], []);
    all.get(m[1]).push({ labels, value: m[3] === "+Inf" ? Infinity : Number(m[3]) });
  }
  return all;
}
const sum = (all, name, only) => (all.get(name) || []).filter((s) => !only || only(s.labels)).reduce((n, s) => n + s.value, 0);
function quantile(q, now, before) {
  const old = new Map((before || []).map((b) => [b.labels.le, b.value]));
  const buckets = now.map((b) => [b.labels.le === "+Inf" ? Infinity : Number(b.labels.le), b.value - (old.get(b.labels.le) || 0)]).sort((a, b) => a[0] - b[0]);
  if (!buckets.length) return NaN;
  const total = buckets[buckets.length - 1][1];
  if (total <= 0) return NaN;
  let low = 0, below = 0;
  for (const [le, n] of buckets) {
    if (n >= q * total) return le === Infinity ? low : low + (le - low) * ((q * total - below) / Math.max(n - below, 1e-9));
    low = le; below = n;
  }
  return low;
}
const samples = [];                                        // the last half minute
const rates = [];
async function measure() {
  for (;;) {
    while (state.paused) await wait(300);
    try {
      const response = await api("/metrics");
      const all = parse(await response.text());
      const now = { at: performance.now(), events: sum(all, "rapport_events_total"), buckets: all.get("rapport_event_to_commit_seconds_bucket") || [] };
      const before = samples[samples.length - 1], oldest = samples[0];
      samples.push(now);
      if (samples.length > 15) samples.shift();
      if (before) {
        rates.push(Math.max(0, (now.events - before.events) / ((now.at - before.at) / 1000)));
        if (rates.length > 30) rates.shift();
        $("rate").textContent = compact(rates[rates.length - 1]);
        const top = Math.max(...rates, 1);
        $("spark").replaceChildren(h("svg:path", { d: rates.map((r, i) => `${i ? "L" : "M"}${(60 * i) / Math.max(rates.length - 1, 1)} ${15 - 14 * (r / top)}`).join("") }));
      }
      let p = [0.5, 0.99].map((q) => quantile(q, now.buckets, oldest && oldest.buckets));
      if (isNaN(p[0])) p = [0.5, 0.99].map((q) => quantile(q, now.buckets));
      $("latency").textContent = isNaN(p[0]) ? "–" : `${seconds(p[0])} / ${seconds(p[1])}`;
      $("scored").textContent = compact(sum(all, "rapport_events_total", (l) => l.outcome === "scored"));
      $("rejected").textContent = compact(sum(all, "rapport_rejects_total"));
      $("lag").textContent = all.has("rapport_lag_records") ? compact(sum(all, "rapport_lag_records")) : "–";
      $("model").textContent = (all.get("rapport_model_info") || []).map((s) => s.labels.version).join(", ") || "–";
      const ready = await fetch("/readyz", { cache: "no-store" });
      banner(ready.ok ? null : `Not ready: ${await problem(ready)}.`);
    } catch (e) {
      for (const id of ["rate", "lag", "latency"]) $(id).textContent = "–";
      if (!(e instanceof Refused)) banner("The service does not answer; this page shows what it last said.");
    }
    await wait(2000);
  }
}
function banner(text) { $("banner").hidden = !text; if (text && $("banner").textContent !== text) $("banner").textContent = text; }

// ---------- token, theme, filters, keyboard
function askToken() {
  if (state.paused) return;
  state.paused = true;
  $("token-wrong").hidden = !state.token;
  $("token-dialog").showModal();
}
$("token-dialog").addEventListener("cancel", (e) => e.preventDefault());
$("token-form").addEventListener("submit", async (e) => {
  e.preventDefault();
  const token = $("token").value.trim();
  const ok = await fetch("/metrics", { headers: { authorization: `Bearer ${token}` } }).then((r) => r.status !== 401, () => false);
  $("token-wrong").hidden = ok;
  if (!ok) { $("token").select(); return; }
  state.token = token;
  sessionStorage.setItem("rapport-token", token);
  $("token").value = "";
  $("token-dialog").close();
  state.paused = false;
});
const dark = matchMedia("(prefers-color-scheme: dark)");
function theme() { document.documentElement.dataset.theme = localStorage.getItem("rapport-theme") || (dark.matches ? "dark" : "light"); }
function flip() { localStorage.setItem("rapport-theme", document.documentElement.dataset.theme === "dark" ? "light" : "dark"); theme(); }
dark.addEventListener("change", theme);
theme();
$("theme").addEventListener("click", flip);
$("keys").addEventListener("click", () => $("keys-dialog").showModal());
function filter(name) {
  state.filter = name;
  for (const b of document.querySelectorAll("[data-filter]")) b.setAttribute("aria-pressed", String(b.dataset.filter === name));
  render();
}
for (const b of document.querySelectorAll("[data-filter]")) b.addEventListener("click", () => filter(b.dataset.filter));
$("query").addEventListener("input", () => { state.query = $("query").value.trim().toLowerCase(); render(); });
$("find").addEventListener("submit", (e) => { e.preventDefault(); const id = $("query").value.trim(); if (id) visit(id); });
document.addEventListener("keydown", (e) => {
  if (document.querySelector("dialog[open]") || e.ctrlKey || e.metaKey || e.altKey) return;
  if (e.key === "Escape") { document.activeElement.blur(); const card = document.querySelector('.card[aria-current="true"]'); if (card) card.focus(); return; }
  if (e.target instanceof HTMLInputElement) return;
  const cards = [...document.querySelectorAll("#alerts li:not([hidden]) .card")];
  const at = cards.indexOf(document.activeElement) >= 0 ? cards.indexOf(document.activeElement) : cards.findIndex((c) => c.getAttribute("aria-current") === "true");
  if (e.key === "j" || e.key === "k") { const card = cards[Math.min(cards.length - 1, Math.max(0, at + (e.key === "j" ? 1 : -1)))]; if (card) { card.focus(); card.scrollIntoView({ block: "nearest" }); } }
  else if (e.key === "/") $("query").focus();
  else if (e.key === "?") $("keys-dialog").showModal();
  else if (e.key === "t") flip();
  else if ("1234".includes(e.key)) filter(["open", "critical", "resolved", "all"][Number(e.key) - 1]);
  else return;
  e.preventDefault();
});
$("detail-body").replaceChildren(h("div", { class: "empty" }, h("p", {}, h("strong", { id: "who" }, "Choose an alert"), h("br"), "to see the customer’s history and what weighed most.")));
render();
follow();
measure();
