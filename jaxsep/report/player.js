"use strict";
// One player a song. All its sounds are decoded when it is first played and start on one clock, so that
// they stay in step to the sample; what is heard is a matter of gains only.
(() => {
  let context = null;
  let current = null; // the player that plays: one at a time

  class Player {
    constructor(root) {
      this.root = root;
      this.duration = Number(root.dataset.duration);
      this.offset = 0; // seconds, where it stands while it does not play
      this.started = 0; // the clock's time at which the offset was heard
      this.playing = false;
      this.voices = null; // name -> {buffer, gain}, once decoded
      this.sources = [];
      this.button = root.querySelector(".play");
      this.slider = root.querySelector(".seek");
      this.clock = root.querySelector(".time");
      this.stems = [...root.querySelectorAll(".stem")];
      this.button.addEventListener("click", () => (this.playing ? this.pause() : this.play()));
      this.slider.addEventListener("input", () => this.seek(Number(this.slider.value)));
      for (const radio of root.querySelectorAll(".choice input")) radio.addEventListener("change", () => this.mix());
      for (const stem of this.stems) {
        for (const name of ["mute", "solo"]) {
          const button = stem.querySelector(`.${name}`);
          button?.addEventListener("click", () => {
            button.setAttribute("aria-pressed", String(!pressed(button)));
            this.mix();
          });
        }
        for (const lane of stem.querySelectorAll(".lane")) this.listenTo(lane);
      }
      this.mix();
    }

    listenTo(lane) {
      const go = (event) => {
        const box = lane.getBoundingClientRect();
        this.seek(((event.clientX - box.left) / box.width) * this.duration);
      };
      lane.addEventListener("pointerdown", (event) => {
        if (event.pointerType === "mouse") lane.setPointerCapture(event.pointerId);
        go(event);
      });
      lane.addEventListener("pointermove", (event) => {
        if (lane.hasPointerCapture?.(event.pointerId)) go(event);
      });
    }

    get position() {
      if (!this.playing) return this.offset;
      return Math.min(this.duration, Math.max(this.offset, this.offset + context.currentTime - this.started));
    }

    get kind() {
      return this.root.querySelector(".choice :checked").value;
    }

    // The sounds to be heard now.
    audible() {
      if (this.kind === "mixture") return new Set(["mixture"]);
      const stems = this.stems.filter((stem) => stem.dataset.stem !== "mixture");
      const soloed = stems.filter((stem) => pressed(stem.querySelector(".solo")));
      const heard = (soloed.length ? soloed : stems).filter((stem) => !pressed(stem.querySelector(".mute")));
      return new Set(heard.map((stem) => `${stem.dataset.stem} ${this.kind}`));
    }

    mix() {
      const audible = this.audible();
      for (const stem of this.stems) {
        for (const lane of stem.querySelectorAll(".lane")) {
          const kind = lane.dataset.kind;
          const name = kind === "mixture" ? "mixture" : `${stem.dataset.stem} ${kind}`;
          lane.classList.toggle("unheard", !audible.has(name));
        }
      }
      for (const [name, voice] of this.voices ?? []) {
        voice.gain.gain.setTargetAtTime(audible.has(name) ? 1 : 0, context.currentTime, 0.008);
      }
    }

    async load() {
      context ??= new AudioContext();
      const sounds = JSON.parse(this.root.querySelector(".sounds").textContent);
      const audible = this.audible();
      const voices = await Promise.all(
        Object.entries(sounds).map(async ([name, text]) => {
          const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
          const buffer = await context.decodeAudioData(bytes.buffer);
          const gain = new GainNode(context, { gain: audible.has(name) ? 1 : 0 });
          gain.connect(context.destination);
          return [name, { buffer, gain }];
        }),
      );
      this.voices = new Map(voices);
      this.mix(); // the choice may have changed while it was decoded
    }

    async play() {
      if (current !== this) current?.release();
      current = this;
      this.button.disabled = true;
      try {
        if (!this.voices) await this.load();
        await context.resume();
      } catch (error) {
        this.clock.textContent = "this browser cannot play it";
        this.voices = null;
        return;
      } finally {
        this.button.disabled = false;
      }
      if (current !== this) return;
      if (this.offset >= this.duration - 0.01) this.offset = 0;
      this.start();
      this.playing = true;
      this.root.classList.add("playing");
      this.button.setAttribute("aria-label", "Pause");
      this.draw();
    }

    start() {
      this.silence();
      this.started = context.currentTime + 0.03; // a little ahead, so that no source is late
      for (const { buffer, gain } of this.voices.values()) {
        const source = new AudioBufferSourceNode(context, { buffer });
        source.connect(gain);
        source.start(this.started, this.offset);
        this.sources.push(source);
      }
    }

    silence() {
      for (const source of this.sources) {
        source.stop();
        source.disconnect();
      }
      this.sources = [];
    }

    pause() {
      this.offset = this.position;
      this.playing = false;
      this.silence();
      this.root.classList.remove("playing");
      this.button.setAttribute("aria-label", "Play");
      this.show();
    }

    // Another song plays: its sounds take much more memory decoded than they do in the page.
    release() {
      if (this.playing) this.pause();
      for (const { gain } of this.voices?.values() ?? []) gain.disconnect();
      this.voices = null;
    }

    seek(seconds) {
      this.offset = Math.max(0, Math.min(this.duration, seconds));
      if (this.playing) this.start();
      this.show();
    }

    draw() {
      if (!this.playing) return;
      if (this.position >= this.duration) {
        this.pause();
        return;
      }
      this.show();
      requestAnimationFrame(() => this.draw());
    }

    show() {
      const position = this.position;
      this.slider.value = position;
      this.root.style.setProperty("--position", position / this.duration);
      this.clock.textContent = `${time(position)} / ${time(this.duration)}`;
    }
  }

  const pressed = (button) => button?.getAttribute("aria-pressed") === "true";
  const time = (seconds) => `${Math.floor(seconds / 60)}:${String(Math.floor(seconds % 60)).padStart(2, "0")}`;

  for (const root of document.querySelectorAll(".song")) new Player(root);
})();
