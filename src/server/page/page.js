// The page of `ospnext serve`: makes videos through /v1/videos and shows them in a gallery.
//
// The gallery is what the list of videos says, asked for every few seconds. While a video is being
// made its events are read as well, for smooth progress and previews; where they do not arrive (a
// proxy that keeps them), the list still tells the progress. Nothing is asked by <img> or <video>
// themselves, since only a request of our own can carry the key in a header.

import {Unreachable, readEvents, requestBlob, requestJson} from "./wire.js";

const pageSize = 24;
const maxStreams = 3;  // a browser opens at most six connections to a server
const pollSeconds = {active: 2, idle: 10, gone: 2};
const isOver = {completed: true, failed: true, cancelled: true};
const formFields = ["prompt", "size", "num_frames", "seed", "num_inference_steps",
  "guidance_scale", "negative_prompt", "lora", "lora_scale"];
const allFields = [...formFields, "fps", "flow_shift", "priority"];

const find = (selector, inside = document) => inside.querySelector(selector);
const makeForm = find("#make-form");

// ---- What the reader is told ----

const problems = {server: "", action: ""};

// Says what is wrong, above everything else, until it is said to be over by an empty text.
function showProblem(kind, text) {
  problems[kind] = text;
  const shown = problems.server || problems.action;
  if (find("#alert").textContent !== shown) find("#alert").textContent = shown;
}

// What an error says, as a sentence of this page.
function sentence({message, retryAfter}) {
  const text = message.replaceAll("`", "").replace(/[^.]$/, "$&.");
  const wait = retryAfter ? ` Try again in ${duration(retryAfter)}.` : "";
  return text[0].toUpperCase() + text.slice(1) + wait;
}

// For screen readers, which do not see cards change.
function announce(text) {
  find("#news").textContent = text;
}

function duration(seconds) {
  const whole = Math.max(1, Math.round(seconds));
  if (whole < 60) return `${whole} s`;
  const minutes = Math.round(whole / 60);
  return minutes < 60 ? `${minutes} min` : `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

function stateText(video) {
  switch (video.status) {
    case "queued":
      return video.queue_position ? `Waiting, number ${video.queue_position} in the queue`
        : "Waiting in the queue";
    case "in_progress":
      return video.eta_seconds == null ? `${video.progress} %`
        : `${video.progress} %, about ${duration(video.eta_seconds)} left`;
    case "completed":
      return `Made in ${duration(video.completed_at - video.started_at)}`;
    case "failed":
      return `Failed: ${video.error?.message ?? "the server gave no reason"}`;
    default:
      return "Cancelled";
  }
}

function settings(video) {
  const date = seconds => seconds ? new Date(1000 * seconds).toLocaleString() : "";
  const length = `${video.num_frames} frames, ${video.fps} a second`;
  const adapter = video.lora ? `${video.lora}, strength ${video.lora_scale ?? 1}` : "";
  return [["Prompt", video.prompt], ["To avoid", video.negative_prompt], ["Size", video.size],
    ["Length", length], ["Seed", video.seed], ["Steps", video.num_inference_steps],
    ["Guidance", video.guidance_scale], ["Adapter", adapter],
    ["Remix of", video.remixed_from_video_id], ["Asked for", date(video.created_at)],
    ["Kept until", date(video.expires_at)]].filter(([, value]) => value != null && value !== "");
}

// ---- One video of the gallery ----

class Card {
  constructor(video) {
    this.node = find("#card").content.firstElementChild.cloneNode(true);
    this.picture = find("img", this.node);
    this.player = find("video", this.node);
    this.urls = new Map();  // of blobs, by variant
    [this.picture.width, this.picture.height] = video.size.split("x");
    [this.player.width, this.player.height] = video.size.split("x");
    this.player.setAttribute("aria-label", video.prompt);
    find("h3", this.node).textContent = video.prompt;
    find("h3", this.node).title = video.prompt;
    for (const button of this.node.querySelectorAll("button")) {
      button.setAttribute("aria-label", `${button.textContent}: ${video.prompt}`);
    }
    this.node.addEventListener("click", event => this.act(event.target.dataset.action));
    this.player.addEventListener("error", () => showProblem(
      "action", "This browser cannot play the video. Download it and play it elsewhere."));
  }

  show(video) {
    const before = this.video;
    if (before && isOver[before.status] && !isOver[video.status]) return;  // an older answer
    this.video = video;
    this.node.className = video.status;
    const making = video.status === "in_progress";
    const bar = find("progress", this.node);
    bar.hidden = !making;
    bar.value = video.progress;
    bar.setAttribute("aria-label", `Progress: ${video.prompt}`);
    find(".state", this.node).textContent = stateText(video);
    const made = video.status === "completed";
    this.offer({cancel: !isOver[video.status], download: made, remix: made,
      again: isOver[video.status], delete: isOver[video.status]});
    if (before?.status === video.status) return;
    find("dl", this.node).replaceChildren(...settings(video).flatMap(
      pair => pair.map((text, i) => make(i ? "dd" : "dt", text))));
    if (made) this.showThumbnail();
    if (before) announce(`${making ? "Started" : stateText(video)}: ${video.prompt}`);
  }

  // Shows the buttons of these actions; a focused one that goes hands the focus to the card.
  offer(actions) {
    for (const [action, offered] of Object.entries(actions)) {
      const button = find(`[data-action=${action}]`, this.node);
      if (!offered && button === document.activeElement) find("article", this.node).focus();
      button.hidden = !offered;
    }
  }

  showPicture(url) {
    this.picture.src = url;
    this.picture.hidden = false;
  }

  async showThumbnail() {
    find(".play", this.node).hidden = false;
    try {
      this.showPicture(await this.url("thumbnail"));
    } catch {
      this.picture.hidden = true;  // it plays without
    }
  }

  // An address within this page of the video or its thumbnail, which is loaded once.
  async url(variant) {
    if (!this.urls.has(variant)) {
      const blob = await requestBlob(`v1/videos/${this.video.id}/content?variant=${variant}`);
      this.type = blob.type;
      this.urls.set(variant, URL.createObjectURL(blob));
    }
    return this.urls.get(variant);
  }

  async act(action) {
    if (!action || this.busy) return;
    this.busy = true;
    showProblem("action", "");
    try {
      await this[action]();
    } catch (error) {
      if (!askForKey(error)) showProblem("action", sentence(error));
    } finally {
      this.busy = false;
    }
  }

  async play() {
    this.player.src = await this.url("video");
    find(".play", this.node).hidden = true;
    this.picture.hidden = true;
    this.player.hidden = false;
    this.player.focus();
    await this.player.play();
  }

  async download() {
    const url = await this.url("video");
    const words = this.video.prompt.toLowerCase().match(/[\p{L}\p{N}]+/gu) ?? ["video"];
    const link = make("a", "");
    link.href = url;
    link.download = `${words.join("-").slice(0, 60)}-${this.video.seed}.${this.type.split("/")[1]}`;
    link.click();
  }

  async cancel() {
    this.show(await requestJson(`v1/videos/${this.video.id}/cancel`, {method: "POST"}));
    refresh();
  }

  // The same settings with another seed, which the server draws.
  async again() {
    await create("v1/videos", bodyOf({...this.video, seed: null}));
  }

  remix() {
    find("#remix-prompt").value = this.video.prompt;
    find("#remix-dialog").returnValue = "";
    find("#remix-dialog").showModal();
    find("#remix-dialog").onclose = () => this.act("sendRemix");
  }

  async sendRemix() {
    if (find("#remix-dialog").returnValue !== "remix") return;
    await create(`v1/videos/${this.video.id}/remix`,
      JSON.stringify({prompt: find("#remix-prompt").value}), {"Content-Type": "application/json"});
  }

  async delete() {
    if (!confirm(`Delete this video?\n\n${this.video.prompt}`)) return;
    await requestJson(`v1/videos/${this.video.id}`, {method: "DELETE"});
    removeCard(this.video.id);
    announce(`Deleted: ${this.video.prompt}`);
    refresh();
  }

  reuse() {
    fillForm(this.video);
    find("#more").open = true;
    makeForm.scrollIntoView();
    find("#prompt").focus();
  }
}

function make(tag, text) {
  const node = document.createElement(tag);
  node.textContent = text;
  return node;
}

// ---- The gallery ----

const cards = new Map();  // by id, those that are shown
const followed = new Set();  // ids whose events are being read
const pageStarts = [];  // the last id of each page before the one shown; none: the newest
let modelIsShown = false;
let timer = 0;
let latest = 0;  // counts refreshes: only the last one begun shows what it finds

async function refresh() {
  clearTimeout(timer);
  const mine = ++latest;
  let seconds = pollSeconds.gone;
  try {
    if (!modelIsShown) await showModel();
    const after = pageStarts.length ? `&after=${pageStarts.at(-1)}` : "";
    const list = await requestJson(`v1/videos?order=desc&limit=${pageSize}${after}`);
    if (mine !== latest) return;
    showProblem("server", "");
    showList(list);
    const isActive = list.data.some(video => !isOver[video.status]);
    seconds = isActive ? pollSeconds.active : pollSeconds.idle;
  } catch (error) {
    if (mine !== latest || askForKey(error)) return;
    if (error instanceof Unreachable) modelIsShown = false;  // another may come back
    if (error.param === "after") pageStarts.length = 0;  // where the page began is deleted
    showProblem("server", sentence(error));
    seconds = error.retryAfter || pollSeconds.gone;
  }
  timer = setTimeout(refresh, 1000 * seconds);
}

function showList(list) {
  const ids = new Set(list.data.map(video => video.id));
  for (const id of [...cards.keys()].filter(id => !ids.has(id))) removeCard(id);
  list.data.forEach((video, place) => {
    const card = cards.get(video.id) ?? new Card(video);
    cards.set(video.id, card);
    card.show(video);
    const there = find("#gallery").children[place];
    if (there !== card.node) find("#gallery").insertBefore(card.node, there ?? null);
    if (video.status === "in_progress") follow(video.id);
  });
  find("#empty").hidden = list.data.length > 0;
  find("#newer").disabled = pageStarts.length === 0;
  find("#older").disabled = !list.has_more;
  find("#older").value = list.last_id ?? "";
  find("#pages").hidden = pageStarts.length === 0 && !list.has_more;
}

function removeCard(id) {
  const {node, urls} = cards.get(id);
  const hadFocus = node.contains(document.activeElement);
  const neighbour = node.nextElementSibling ?? node.previousElementSibling;
  node.remove();
  cards.delete(id);
  urls.forEach(url => URL.revokeObjectURL(url));
  if (hadFocus) find(neighbour ? "article" : "#videos", neighbour ?? document).focus();
}

// Reads the events of a video that is being made, until it is over or the connection ends.
async function follow(id) {
  if (followed.has(id) || followed.size >= maxStreams) return;
  followed.add(id);
  try {
    await readEvents(`v1/videos/${id}/events`, (name, data) => {
      if (name === "preview") {
        const type = data.jpeg_base64 ? "jpeg" : "png";
        cards.get(id)?.showPicture(`data:image/${type};base64,${data[`${type}_base64`]}`);
      } else {
        cards.get(id)?.show(data);
        if (isOver[data.status]) refresh();
      }
    });
  } catch {
    // The list still tells the progress.
  } finally {
    followed.delete(id);
  }
}

function turnTo(change) {
  change();
  find("#videos").focus();
  refresh();
}

find("#older").addEventListener("click", () => turnTo(() => pageStarts.push(find("#older").value)));
find("#newer").addEventListener("click", () => turnTo(() => pageStarts.pop()));

// ---- Asking for a video ----

// The fields of a video as multipart/form-data, in which a seed keeps all its digits.
function bodyOf(values) {
  const body = new FormData();
  for (const name of allFields) {
    if (values[name] != null) body.append(name, values[name]);
  }
  return body;
}

// Asks for a video, again and again while the server is gone. The same idempotency key each time
// lets the server answer with the video that it has already accepted.
async function create(path, body, headers = {}) {
  const key = crypto.getRandomValues(new Uint32Array(4)).join("-");
  for (;;) {
    try {
      const video = await requestJson(
        path, {method: "POST", body, headers: {...headers, "Idempotency-Key": key}});
      announce(`In the queue: ${video.prompt}`);
      pageStarts.length = 0;
      refresh();
      return;
    } catch (error) {
      if (!(error instanceof Unreachable)) throw error;
      showProblem("server", sentence(error));
      await new Promise(done => setTimeout(done, 1000 * pollSeconds.gone));
    }
  }
}

// ---- The form ----

// What is filled in of the form; the server chooses the rest.
function formValues() {
  return Object.fromEntries([...new FormData(makeForm)].filter(([, value]) => value !== ""));
}

function fillForm(values) {
  for (const name of formFields) {
    const field = makeForm.elements[name];
    const value = values[name] ?? "";
    if (field.tagName === "SELECT" && ![...field.options].some(one => one.value === `${value}`)) {
      field.add(new Option(value, value));
    }
    field.value = value;
  }
  saveDraft();
}

function saveDraft() {
  sessionStorage.setItem("draft", JSON.stringify(formValues()));
}

function showError(error) {
  for (const field of makeForm.elements) field.removeAttribute("aria-invalid");
  find("#make-error").textContent = error ? sentence(error) : "";
  const field = error?.param && makeForm.elements[error.param];
  if (!field) return;
  if (find("#more").contains(field)) find("#more").open = true;
  field.setAttribute("aria-invalid", "true");
  field.focus();
}

makeForm.addEventListener("input", saveDraft);
makeForm.addEventListener("keydown", event => {
  if (event.key === "Enter" && event.ctrlKey) makeForm.requestSubmit();
});
makeForm.addEventListener("submit", async event => {
  event.preventDefault();
  if (makeForm.ariaBusy === "true") return;
  makeForm.ariaBusy = "true";
  showError(null);
  try {
    await create("v1/videos", bodyOf(formValues()));
  } catch (error) {
    if (!askForKey(error)) showError(error);
  } finally {
    makeForm.ariaBusy = "false";
  }
});

// ---- What the server can do ----

function offerChoices(select, choices, chosen) {
  select.replaceChildren(...choices.map(([value, text]) => new Option(text, value)));
  if (chosen != null) select.value = chosen;
}

// Shows the sizes, lengths, limits and adapters of the model.
async function showModel() {
  const model = (await requestJson("v1/models")).data[0];
  const loras = (await requestJson("v1/loras")).data;
  find("#model").textContent = model.id;
  const draft = JSON.parse(sessionStorage.getItem("draft") ?? "null");
  offerChoices(find("#size"), model.presets.sizes.map(size => [size, size.replace("x", " × ")]),
    model.defaults.size);
  offerChoices(find("#num_frames"), model.presets.num_frames.map(frames => [frames,
    `${(frames / model.defaults.fps).toFixed(1)} (${frames})`]),
  model.defaults.num_frames);
  find("#num_inference_steps").max = model.limits.num_inference_steps;
  for (const name of ["num_inference_steps", "guidance_scale", "negative_prompt"]) {
    find(`#${name}`).placeholder = model.defaults[name];
  }
  find("#adapter").hidden = loras.length === 0;
  offerChoices(find("#lora"), [["", "None"], ...loras.map(lora => [lora.id, lora.id])]);
  if (draft) fillForm(draft);
  modelIsShown = true;
}

// ---- The key ----

// Shows the key's form if the error is that the server wants one; says whether it does.
function askForKey(error) {
  if (error.status !== 401) return false;
  find("#key-reason").textContent = sessionStorage.getItem("key")
    ? "The server does not know this key." : "This server answers only with a key.";
  if (find("#key-form").hidden) {
    find("#key-form").hidden = false;
    makeForm.hidden = true;
    find("#key").focus();
  }
  return true;
}

find("#key-form").addEventListener("submit", event => {
  event.preventDefault();
  sessionStorage.setItem("key", find("#key").value.trim());
  start();
});

find("#forget-key").addEventListener("click", () => {
  sessionStorage.removeItem("key");
  location.reload();
});

function start() {
  find("#key").value = "";
  find("#key-form").hidden = true;
  makeForm.hidden = false;
  showError(null);
  find("#forget-key").hidden = !sessionStorage.getItem("key");
  refresh();
}

start();
