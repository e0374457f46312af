// What the page adds for people who have scripts on. Everything it touches works without it.
"use strict";

// Empty fields do not belong into links.
document.addEventListener("formdata", (event) => {
  if (event.target.id !== "search") return;
  const data = event.formData;
  for (const name of new Set(data.keys())) {
    const values = data.getAll(name).filter((value) => value !== "");
    data.delete(name);
    for (const value of new Set(values)) data.append(name, value);
  }
});

// The threshold is a number field; beside it stands a slider that writes into it.
const threshold = document.getElementById("threshold");
if (threshold) {
  const slider = document.createElement("input");
  Object.assign(slider, { type: "range", min: 0, max: 1, step: 0.01, value: threshold.value || 0.5 });
  slider.setAttribute("aria-label", "Tag threshold, as a slider");
  slider.addEventListener("input", () => { threshold.value = slider.value; });
  slider.addEventListener("change", () => threshold.dispatchEvent(new Event("change", { bubbles: true })));
  threshold.addEventListener("input", () => { slider.value = threshold.value || 0.5; });
  threshold.before(slider);
}

// A picture is searched with as soon as it is chosen, dropped anywhere, or pasted.
const drop = document.getElementById("drop");
if (drop) {
  const field = drop.querySelector("input[type=file]");
  const send = (files) => {
    const picture = Array.from(files ?? []).find((file) => file.type.startsWith("image/"));
    if (!picture) return false;
    const transfer = new DataTransfer();
    transfer.items.add(picture);
    field.files = transfer.files;
    document.body.classList.add("busy");
    drop.submit();
    return true;
  };
  drop.classList.add("scripted");
  field.addEventListener("change", () => send(field.files));
  let depth = 0;
  const over = (change) => {
    depth = Math.max(0, depth + change);
    document.body.classList.toggle("dropping", depth > 0);
  };
  const holdsFiles = (event) => event.dataTransfer?.types.includes("Files");
  document.addEventListener("dragenter", (event) => { if (holdsFiles(event)) over(1); });
  document.addEventListener("dragleave", (event) => { if (holdsFiles(event)) over(-1); });
  document.addEventListener("dragover", (event) => { if (holdsFiles(event)) event.preventDefault(); });
  document.addEventListener("drop", (event) => {
    if (!holdsFiles(event)) return;
    event.preventDefault();
    over(-depth);
    send(event.dataTransfer.files);
  });
  document.addEventListener("paste", (event) => {
    if (event.clipboardData?.files.length && send(event.clipboardData.files)) event.preventDefault();
  });
}

// A click on a button that cannot be taken back asks once more.
document.addEventListener("submit", (event) => {
  const question = event.submitter?.dataset.confirm;
  if (question && !window.confirm(question)) event.preventDefault();
});

// "/" puts the cursor into the search box.
document.addEventListener("keydown", (event) => {
  const isTyping = event.target.closest?.("input, textarea, select");
  if (event.key !== "/" || isTyping || event.ctrlKey || event.metaKey || event.altKey) return;
  const box = document.getElementById("q");
  if (box) {
    event.preventDefault();
    box.focus();
    box.select();
  }
});

// Live screens say when they are no longer live.
const offline = document.querySelector(".offline");
const isOffline = (value) => { if (offline) offline.hidden = !value; };
document.addEventListener("htmx:error", () => isOffline(true));
document.addEventListener("htmx:response:error", (event) => isOffline(event.detail.ctx.response.status >= 500));
document.addEventListener("htmx:after:request", (event) => { if (event.detail.ctx.response.status < 500) isOffline(false); });
