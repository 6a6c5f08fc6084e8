#!/usr/bin/env python3
"""Seconds per epoch of `rapport train` against the same networks in PyTorch, both on one thread of one core, in one run.

Usage: benches/train_torch.py RAPPORT INTERACTIONS LABELS   (needs torch and numpy; RAPPORT built with `--features train`)

Both sides see the same conversations, texts, labels, batches of 16 conversations and sizes (embedding 100, 3 x 32 filters, 65,536 x 32 bag, vector 96,
GRU 96). What differs does not change the work: PyTorch's words get other row numbers, its features are random. Reading and preparing the input is
timed on neither side. PyTorch's own modules are used as its users would: Conv1d, EmbeddingBag, GRU on padded batches, AdamW, clip_grad_norm_.
"""
import json, os, re, subprocess, sys, tempfile, time, zlib

os.sched_setaffinity(0, {0})
os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = "1"
import torch
from torch import nn

EMBEDDING, FILTERS, BAG, ROWS, VECTOR, HIDDEN, FEATURES, WORDS = 100, 32, 32, 65536, 96, 96, 41, 40
torch.set_num_threads(1)
torch.manual_seed(1)


def read(interactions, labels):
    """Conversations of steps (word rows, bag rows, class of satisfaction or -1), as `rapport train` fits on them: nine tenths of the customers."""
    ratings = {}
    for line in open(labels):
        label = json.loads(line)
        if label["task"] == "satisfaction":
            ratings[label["interaction_id"]] = label["value"]
    rows, conversations = {}, {}
    for line in open(interactions):
        one = json.loads(line)
        words = re.findall(r"n't|'\w+|\w+?(?=n't)|\w+|[^\w\s]", one.get("text", "").lower())[:WORDS]
        tokens = [rows.setdefault(w, len(rows) + 2) % 16000 for w in words]
        pairs = words + [a + " " + b for a, b in zip(words, words[1:])]
        bag = [1 + zlib.crc32(p.encode()) % (ROWS - 1) for p in pairs]
        rating = ratings.get(one["id"])
        cls = -1 if rating is None else 0 if rating < 3 else 1 if rating == 3 else 2
        conversations.setdefault(one["customer_id"], []).append((tokens, bag, cls))
    kept = [c for i, c in enumerate(conversations.values()) if i % 10 and any(s[2] >= 0 for s in c)]
    return kept


class Network(nn.Module):
    def __init__(self):
        super().__init__()
        self.words = nn.Embedding(16002, EMBEDDING, padding_idx=0)
        self.convolutions = nn.ModuleList(nn.Conv1d(EMBEDDING, FILTERS, k, padding=k - 1) for k in (3, 4, 5))
        self.bag = nn.EmbeddingBag(ROWS, BAG, mode="sum")
        pooled = 3 * FILTERS + BAG + EMBEDDING
        self.text = nn.Linear(pooled, VECTOR)
        self.gru = nn.GRU(VECTOR + FEATURES, HIDDEN, batch_first=True)
        self.dropout = nn.Dropout(0.3)
        self.head = nn.Linear(HIDDEN + 3 * VECTOR + FEATURES, 3)
        self.mean = nn.Linear(HIDDEN + 3 * VECTOR + FEATURES, 1)

    def forward(self, tokens, lengths, bag, offsets, sizes, features, places, shape):
        x = self.words(tokens)
        maxima = [c(x.transpose(1, 2)).relu().amax(2) for c in self.convolutions]
        bag = self.bag(bag, offsets) / sizes.sqrt().clamp(min=1).unsqueeze(1)
        mean = x.sum(1) / lengths.clamp(min=1).unsqueeze(1)
        pooled = self.dropout(torch.cat(maxima + [bag, mean], 1))
        vectors = torch.zeros(shape[0] * shape[1], VECTOR).index_copy(0, places, self.text(pooled).tanh()).view(*shape, VECTOR)
        hidden, _ = self.gru(torch.cat([vectors, features], 2))
        one = nn.functional.pad(vectors, (0, 0, 1, 0))[:, :-1]
        two = nn.functional.pad(vectors, (0, 0, 2, 0))[:, :-2]
        head = self.dropout(torch.cat([hidden, vectors, features, one, two], 2).view(-1, HIDDEN + 3 * VECTOR + FEATURES).index_select(0, places))
        return self.head(head), self.mean(head)


def batches(conversations):
    order, out, room = torch.randperm(len(conversations)).tolist(), [], 0
    for i in order:
        if room <= 0:
            out.append([])
            room = 16 * 8
        out[-1].append(conversations[i])
        room -= min(len(conversations[i]), 8)
    return out


def epoch(conversations):
    """Seconds of one epoch, forward, backward and update."""
    network = Network()
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3, betas=(0.9, 0.99), weight_decay=0.02)
    average = [p.detach().clone() for p in network.parameters()]
    begun, texts = time.perf_counter(), 0
    for batch in batches(conversations):
        steps = [s for c in batch for s in c]
        longest = max(len(c) for c in batch)
        width = max(1, max(len(s[0]) for s in steps))
        tokens = torch.zeros(len(steps), width, dtype=torch.long)
        for i, s in enumerate(steps):
            tokens[i, : len(s[0])] = torch.tensor(s[0], dtype=torch.long)
        places = torch.tensor([b * longest + t for b, c in enumerate(batch) for t in range(len(c))])
        bag = torch.tensor([r for s in steps for r in s[1]])
        sizes = torch.tensor([len(s[1]) for s in steps])
        offsets = sizes.cumsum(0) - sizes
        lengths = torch.tensor([len(s[0]) for s in steps], dtype=torch.float)
        features = torch.randn(len(batch), longest, FEATURES)
        logits, mean = network(tokens, lengths, bag, offsets, sizes.float(), features, places, (len(batch), longest))
        classes = torch.tensor([s[2] for s in steps])
        rated = classes >= 0
        loss = nn.functional.cross_entropy(logits[rated], classes[rated]) + 0.5 * (mean[rated, 0] - classes[rated].float()).square().mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        with torch.no_grad():
            torch._foreach_lerp_(average, list(network.parameters()), 0.01)
        texts += len(steps)
    return time.perf_counter() - begun, texts


def main():
    rapport, interactions, labels = sys.argv[1:4]
    conversations = read(interactions, labels)
    ours, theirs = [], []
    for _ in range(3):
        with tempfile.TemporaryDirectory() as folder:
            with open(folder + "/train.toml", "w") as settings:
                settings.write("batch = 16\nmean_loss = 0.5\nintercept_deviation = 0.0\n")
            run = [rapport, "train", "--interactions", interactions, "--labels", labels, "--out", folder + "/bundle", "--epochs", "1",
                   "--config", folder + "/train.toml"]
            said = subprocess.run(run, check=True, capture_output=True, text=True).stderr
        steps, seconds = re.search(r"fitting: (\d+) steps in ([\d.]+) s", said).groups()
        ours.append(float(seconds))
        seconds, texts = epoch(conversations)
        theirs.append(seconds)
        print(f"rapport {ours[-1]:.1f} s ({steps} steps), PyTorch {torch.__version__} {seconds:.1f} s ({texts} texts)", flush=True)
    print(f"seconds per epoch, median of 3 on one core: rapport {sorted(ours)[1]:.1f}, PyTorch {sorted(theirs)[1]:.1f}, ratio {sorted(ours)[1] / sorted(theirs)[1]:.2f}")


main()
