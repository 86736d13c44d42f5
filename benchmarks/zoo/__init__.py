"""Real models of the package index, taken through edgeq and through onnxruntime's own quantizers.

    python -m benchmarks.zoo FOLDER                    every model; goes on where it stopped
    python -m benchmarks.zoo FOLDER magika nudenet     only these
    python -m benchmarks.zoo FOLDER --page docs/measured/zoo.md

The packages are downloaded into FOLDER by name and version, and nothing of them is shipped: their
licences are their own. Inputs are of the kind that each model gets in its application: photographs
(scikit-learn's two), drawn lines of text, speech by espeak-ng, files of the Python installation.
"""
