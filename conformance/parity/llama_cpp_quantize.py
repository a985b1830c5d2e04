"""Lets llama.cpp write a GGUF file in another type, to be read by Frugal.

    python llama_cpp_quantize.py IN.gguf OUT.gguf Q4_K_M
"""

import argparse
import ctypes

import llama_cpp

TYPES = {
    "Q4_0": 2, "Q4_1": 3, "Q8_0": 7, "Q5_0": 8, "Q5_1": 9, "Q2_K": 10, "Q3_K_M": 12, "Q4_K_M": 15,
    "Q5_K_M": 17, "Q6_K": 18, "IQ4_NL": 25,
}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("source")
    parser.add_argument("out")
    parser.add_argument("type", choices=TYPES)
    arguments = parser.parse_args()
    settings = llama_cpp.llama_model_quantize_default_params()
    settings.ftype = TYPES[arguments.type]
    settings.nthread = 2
    code = llama_cpp.llama_model_quantize(
        arguments.source.encode(), arguments.out.encode(), ctypes.byref(settings)
    )
    if code:
        raise SystemExit(f"llama.cpp refused with {code}")


if __name__ == "__main__":
    main()
