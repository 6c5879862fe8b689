"""Reference values for all-MiniLM-L6-v2: ids by Hugging Face's tokenizers, the forward pass in float64 by numpy.

    python3 minilm.py FOLDER > minilm.json    (needs numpy, safetensors, tokenizers; FOLDER also has tokenizer.json)
"""
import json, math, sys
import numpy as np
from safetensors.numpy import load_file
from tokenizers import Tokenizer

folder = sys.argv[1]
weights = {name: value.astype(np.float64) for name, value in load_file(f"{folder}/model.safetensors").items()}
tokenizer = Tokenizer.from_file(f"{folder}/tokenizer.json")
tokenizer.no_padding()
tokenizer.enable_truncation(256)
erf = np.vectorize(math.erf)

def linear(x, name):
    return x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]

def norm(x, name):
    mean = x.mean(-1, keepdims=True)
    variance = ((x - mean) ** 2).mean(-1, keepdims=True)
    return (x - mean) / np.sqrt(variance + 1e-12) * weights[f"{name}.weight"] + weights[f"{name}.bias"]

def heads(x):
    return x.reshape(len(x), 12, 32).transpose(1, 0, 2)

def embed(ids):
    e = "embeddings"
    x = weights[f"{e}.word_embeddings.weight"][ids] + weights[f"{e}.position_embeddings.weight"][: len(ids)]
    x = norm(x + weights[f"{e}.token_type_embeddings.weight"][0], f"{e}.LayerNorm")
    for number in range(6):
        layer = f"encoder.layer.{number}"
        q, k, v = (heads(linear(x, f"{layer}.attention.self.{part}")) for part in ("query", "key", "value"))
        scores = q @ k.transpose(0, 2, 1) / math.sqrt(32)
        scores = np.exp(scores - scores.max(-1, keepdims=True))
        scores /= scores.sum(-1, keepdims=True)
        context = (scores @ v).transpose(1, 0, 2).reshape(len(ids), 384)
        x = norm(x + linear(context, f"{layer}.attention.output.dense"), f"{layer}.attention.output.LayerNorm")
        inner = linear(x, f"{layer}.intermediate.dense")
        inner = inner * 0.5 * (1 + erf(inner / math.sqrt(2)))
        x = norm(x + linear(inner, f"{layer}.output.dense"), f"{layer}.output.LayerNorm")
    x = x.mean(0)
    return x / np.sqrt((x * x).sum())

TEXTS = [
    "",
    "a",
    "Where is my order?",
    "Where is my parcel?",
    "Cancel my subscription, please.",
    "What is the weather like in Paris tomorrow?",
    "The invoice \"A-1042\" (429.00 EUR) isn't paid; it's due on 2026-11-30.",
    "Grüße aus München: Ça va, señor? Ångström, naïve, façade, œuvre, Straße, İstanbul",
    "Cafe\u0301 and café are one, so are ﬁne and fine not",
    "注文はどこですか？",
    "我的订单在哪里？ My order 42在路上",
    "🦀 Rust is fun 🎉👩‍👩‍👧‍👦!",
    "Где мой заказ? Ёлка, майка",
    "أين طلبي؟",
    "tabs\tand\nnew lines\r\nand\u00a0spaces\u3000of\u2003all kinds",
    "zero\u200bwidth, soft\u00adhyphen, nul\u0000, replacement\ufffd, bell\u0007 and private \ue000 ones",
    "tabs\u000bof\u000cother\u0085kinds, ideographs \U0002b820x \U0002b920x \U00020000x",
    "antidisestablishmentarianism pneumonoultramicroscopicsilicovolcanoconiosis",
    "x" * 100,
    "x" * 101,
    "a [SEP] b [CLS] c [MASK] d [UNK]".replace("[", "(").replace("]", ")"),
    "$5 + €6 = ¥700 ~ `code` ^ | <tag> § ¶ • … — – ‘quoted’ «guillemets»",
    "İ ǅ ẞ ΟΔΥΣΣΕΥΣ ﷺ Ⅷ ½ ²",
    "한국어 문장입니다",
    "हिन्दी में एक वाक्य, ภาษาไทย",
    " ".join(f"order number {n} is {n * 7}" for n in range(120)),
    "word " * 253 + "ab",
]

golden = []
for text in TEXTS:
    ids = tokenizer.encode(text).ids
    vector = embed(ids)
    golden.append({"text": text, "ids": ids, "head": [float(f"{v:.9f}") for v in vector[:8]], "norm": float(f"{np.linalg.norm(vector):.9f}")})
rows = ",\n".join(" " + json.dumps(row, ensure_ascii=True, separators=(", ", ": ")) for row in golden)
print(f"[\n{rows}\n]")
