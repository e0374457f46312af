// Enhancements of the page for browsers with JavaScript. Everything also works without it.
"use strict";

// Remove empty fields from the form, so that they do not appear in links.
document.addEventListener("formdata", (event) => {
  if (event.target.id !== "search") return;
  const data = event.formData;
  for (const name of new Set(data.keys())) {
    const values = data.getAll(name).filter((value) => value !== "");
    data.delete(name);
    for (const value of new Set(values)) data.append(name, value);
  }
});

// Add a slider next to the number field of the threshold. It writes its value into the field.
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

// Start a search as soon as a picture is chosen, dropped anywhere on the page, or pasted.
const drop = document.getElementById("drop");
if (drop) {
  const field = drop.querySelector("input[type=file]");
  const send = (files) => {
    // Browsers know few media types (no HEIC, no RAW), so the server checks whether the file is a picture.
    const picture = Array.from(files ?? [])[0];
    if (!picture) return false;
    const transfer = new DataTransfer();
    transfer.items.add(picture);
    field.files = transfer.files;
    document.body.classList.add("busy");
    const status = drop.querySelector("[role=status]");
    if (status) status.textContent = `Searching with ${picture.name}… The first search loads the model and takes a few seconds.`;
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

// Ask for confirmation before an action that cannot be undone.
document.addEventListener("submit", (event) => {
  const question = event.submitter?.dataset.confirm;
  if (question && !window.confirm(question)) event.preventDefault();
});

// Complete the term at the cursor of the search box, or the name of a tag in another field. Such a field is a combobox
// with a list, as the ARIA practices describe it.
const box = document.getElementById("q");
function offerCompletions(box) {
  const options = document.getElementById(`${box.id}-options`);
  const said = document.createElement("p");
  said.className = "sr";
  said.setAttribute("role", "status");
  box.closest(".combo").append(said);
  box.removeAttribute("list"); // it would open a second list
  for (const [name, value] of [["role", "combobox"], ["aria-autocomplete", "list"], ["aria-controls", options.id], ["aria-expanded", "false"]]) box.setAttribute(name, value);

  let active = -1, timer = 0, request = null;
  const activate = (index) => {
    active = index;
    Array.from(options.children).forEach((option, place) => option.setAttribute("aria-selected", String(place === index)));
    if (index < 0) return box.removeAttribute("aria-activedescendant");
    box.setAttribute("aria-activedescendant", options.children[index].id);
    options.children[index].scrollIntoView({ block: "nearest" });
  };
  const show = (html) => {
    options.innerHTML = html;
    const count = options.children.length;
    options.hidden = count === 0;
    box.setAttribute("aria-expanded", String(count > 0));
    said.textContent = count ? `${count} completions` : "";
    activate(-1);
  };
  const close = () => { clearTimeout(timer); request?.abort(); show(""); };
  const complete = async () => {
    request?.abort();
    request = new AbortController();
    // The server counts characters. A browser counts UTF-16 units, of which an emoji has two.
    const at = Array.from(box.value.slice(0, box.selectionStart)).length;
    const address = `${box.dataset.suggest}?${new URLSearchParams({ q: box.value, at })}`;
    try {
      const response = await fetch(address, { signal: request.signal });
      if (response.ok) show(await response.text());
    } catch (error) {
      if (error.name !== "AbortError") close(); // the server is unavailable: show no completions, the box works without them
    }
  };
  const take = (option) => {
    const { text, at } = option.dataset;
    const cursor = Array.from(text).slice(0, Number(at)).join("").length;
    close();
    box.value = text;
    box.setSelectionRange(cursor, cursor);
    box.dispatchEvent(new InputEvent("input", { bubbles: true, inputType: "insertReplacementText" }));
  };

  box.addEventListener("input", (event) => {
    clearTimeout(timer);
    if (event.isComposing) return; // the user is still composing characters, for example with a Chinese keyboard
    if (event.inputType === "insertReplacementText" && !/[:>]$/.test(box.value.slice(0, box.selectionStart))) return;
    timer = setTimeout(complete, 150);
  });
  box.addEventListener("compositionend", () => { timer = setTimeout(complete, 150); });
  box.addEventListener("blur", close);
  box.addEventListener("keydown", (event) => {
    const count = options.children.length;
    if (!count || event.isComposing) return;
    if (event.key === "ArrowDown") activate(active + 1 < count ? active + 1 : -1);
    else if (event.key === "ArrowUp") activate(active < 0 ? count - 1 : active - 1);
    else if (event.key === "Escape") close();
    else if ((event.key === "Enter" || event.key === "Tab") && active >= 0) take(options.children[active]);
    else {
      if (event.key === "Enter") close();
      return;
    }
    event.preventDefault();
  });
  // Pressing the mouse button must not take the focus from the box: that would close the list before the click.
  options.addEventListener("mousedown", (event) => event.preventDefault());
  options.addEventListener("click", (event) => {
    const option = event.target.closest("[role=option]");
    if (option) take(option);
  });
}
for (const field of document.querySelectorAll("[data-suggest]")) offerCompletions(field);

// "/" moves the focus to the search box.
document.addEventListener("keydown", (event) => {
  const isTyping = event.target.closest?.("input, textarea, select");
  if (event.key !== "/" || isTyping || event.ctrlKey || event.metaKey || event.altKey) return;
  if (box) {
    event.preventDefault();
    box.focus();
    box.select();
  }
});

// Show a message while live pages cannot reach the server.
const offline = document.querySelector(".offline");
const isOffline = (value) => { if (offline) offline.hidden = !value; };
document.addEventListener("htmx:error", () => isOffline(true));
document.addEventListener("htmx:response:error", (event) => isOffline(event.detail.ctx.response.status >= 500));
document.addEventListener("htmx:after:request", (event) => { if (event.detail.ctx.response.status < 500) isOffline(false); });

// Restore the results after Back. The loaded hits and the scroll position are kept as long as the tab is open.
const PLACE = "ramq:place";
const grid = document.getElementById("grid");
const here = () => location.pathname + location.search;
const remembered = () => { try { return JSON.parse(sessionStorage.getItem(PLACE)); } catch { return null; } };
if (document.getElementById("results")) {
  const place = remembered();
  const isBack = performance.getEntriesByType("navigation")[0]?.type === "back_forward" || location.hash === "#back";
  if (grid && isBack && place?.at === here() && place.hits) {
    grid.innerHTML = place.hits;
    window.htmx?.process(grid);
    history.scrollRestoration = "manual";
    window.scrollTo(0, place.scroll);
    const seen = Array.from(grid.querySelectorAll("a.shot")).find((link) => link.pathname === `/images/${place.seen}`);
    seen?.closest(".hit").scrollIntoView({ block: "nearest" });
    if (location.hash === "#back") history.replaceState(history.state, "", here());
  }
  window.addEventListener("pagehide", () => {
    const hits = document.getElementById("grid");
    const ids = Array.from(hits?.querySelectorAll("a.shot") ?? [], (link) => Number(link.pathname.split("/").pop()));
    const now = { at: here(), hits: hits?.innerHTML ?? "", ids, scroll: window.scrollY };
    // The storage of a tab is small. A very long list does not fit: remove it, and Back starts at the first page again.
    try { sessionStorage.setItem(PLACE, JSON.stringify(now)); } catch { sessionStorage.removeItem(PLACE); }
  });
}

// On the page of an image that was opened from search results, link the previous and the next result.
const trail = document.querySelector(".place");
if (trail) {
  const place = remembered();
  const id = Number(location.pathname.split("/").pop());
  const at = place?.ids?.indexOf(id) ?? -1;
  if (at >= 0) {
    trail.hidden = false;
    trail.querySelector(".back").href = `${place.at}#back`;
    sessionStorage.setItem(PLACE, JSON.stringify({ ...place, seen: id }));
    const links = [[".previous", place.ids[at - 1]], [".next", place.ids[at + 1]]].map(([name, other]) => {
      const link = trail.querySelector(name);
      if (other === undefined) { link.remove(); return null; }
      link.href = `/images/${other}${location.search}`; // with the words that were searched for
      // Replace this history entry, so that Back always returns to the results.
      link.addEventListener("click", (event) => { event.preventDefault(); location.replace(link.href); });
      return link;
    });
    document.addEventListener("keydown", (event) => {
      if (event.target.closest?.("input, textarea, select") || event.altKey || event.ctrlKey || event.metaKey) return;
      const link = { ArrowLeft: links[0], ArrowRight: links[1] }[event.key];
      if (link && !document.querySelector("dialog[open]")) link.click();
    });
  }
}

// A click on the preview opens the original in a dialog. A second click shows it at its full size.
const zoom = document.querySelector("a.zoom");
if (zoom) zoom.addEventListener("click", (event) => {
  if (event.ctrlKey || event.metaKey || event.shiftKey) return;
  event.preventDefault();
  const dialog = document.createElement("dialog");
  dialog.className = "lightbox";
  dialog.setAttribute("aria-label", "Original");
  const picture = document.createElement("img");
  picture.alt = zoom.querySelector("img").alt;
  // Browsers cannot show some originals (TIFF, RAW). Show the largest preview instead.
  picture.addEventListener("error", () => { picture.src = zoom.querySelector("img").src; }, { once: true });
  picture.src = zoom.href;
  picture.addEventListener("click", () => dialog.classList.toggle("full"));
  const close = document.createElement("button");
  close.textContent = "Close";
  close.addEventListener("click", () => dialog.close());
  dialog.append(close, picture);
  dialog.addEventListener("click", (inside) => { if (inside.target === dialog) dialog.close(); });
  dialog.addEventListener("close", () => dialog.remove());
  document.body.append(dialog);
  dialog.showModal();
});

// Show the place of a line or a region in the picture while it is pointed at, or has the focus, in its list.
const light = (event, isOn) => {
  const row = event.target.closest("[data-spot]");
  if (row) document.getElementById(row.dataset.spot)?.classList.toggle("on", isOn);
};
for (const list of document.querySelectorAll("#text, #regions")) {
  for (const name of ["pointerover", "focusin"]) list.addEventListener(name, (event) => light(event, true));
  for (const name of ["pointerout", "focusout"]) list.addEventListener(name, (event) => light(event, false));
}

// Copy all lines. Browsers give pages the clipboard only over HTTPS and on this machine.
const copy = document.getElementById("copy-text");
if (copy && navigator.clipboard) {
  copy.hidden = false;
  copy.addEventListener("click", async () => {
    const lines = Array.from(document.querySelectorAll(".spot text"), (line) => line.textContent);
    await navigator.clipboard.writeText(lines.join("\n"));
    copy.textContent = "Copied";
  });
}
