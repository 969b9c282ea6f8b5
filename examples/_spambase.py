"""The UCI data set *Spambase*, for the examples on spam."""

import pandas as pd

from skrobust.datasets import fetch_spambase

WORDS = (
    "make address all 3d our over remove internet order mail receive will people report addresses "
    "free business email you credit your font 000 money hp hpl george 650 lab labs telnet 857 data "
    "415 85 technology 1999 parts pm direct cs meeting original project re edu table conference"
)
OWN_WORDS = "hp hpl george 650 lab labs telnet 857 415 85 technology cs"
CAPITALS = ["capitals mean", "capitals longest", "capitals total"]
NAMES = [*WORDS.split(" "), *(f"sign {sign}" for sign in ";([!$#"), *CAPITALS]


def load():
    """Return the table without its duplicate rows, and whether each mail is spam."""
    data = fetch_spambase()
    frame = pd.DataFrame(data.data, columns=NAMES)
    kept = ~frame.duplicated().to_numpy()
    return frame[kept], data.target[kept] == 1
