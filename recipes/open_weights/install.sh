#!/bin/sh
# Installs what the corpus is built from, and names what could not be had. Debian or Ubuntu, as root; the Python packages
# go where $PIP says (default: pip), and are run by $PYTHON (default: python3).
missing=""
apt-get update -q || missing="$missing apt-get-update"
for package in fluid-soundfont-gm musescore-general-soundfont-small fluidr3mono-gm-soundfont mma \
    sonic-pi-samples hydrogen-drumkits fretsonfire-songs-sectoid fretsonfire-songs-muldjord \
    asterisk-core-sounds-en-g722 asterisk-core-sounds-fr-g722 asterisk-core-sounds-it-g722 \
    asterisk-core-sounds-ru-g722 asterisk-core-sounds-es-g722 flite; do
    DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "$package" || missing="$missing $package"
done
# mma looks grooves up in a database that it makes once.
command -v mma >/dev/null && mma -G
# tinysoundfont asks for PyAudio, which only its live playing needs.
${PIP:-pip} install --no-deps tinysoundfont==0.3.7 || missing="$missing tinysoundfont"
for package in pyworld==0.3.5 pysinsy==0.0.5 mido "setuptools<81" av soxr matplotlib; do
    ${PIP:-pip} install "$package" || missing="$missing $package"
done
# More speakers, about 5 MB; it downloads 1.6 GB and needs 5 GB for the time being, which SPEECH=no saves.
if [ "$SPEECH" != no ]; then
    (cd "$(dirname "$0")/../.." && PYTHONPATH=. ${PYTHON:-python3} -m recipes.open_weights.speech) || missing="$missing speech"
fi
if [ -n "$missing" ]; then
    echo "could not get:$missing. The corpus is built without them." >&2
    exit 1
fi
