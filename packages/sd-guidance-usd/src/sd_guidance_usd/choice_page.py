"""The page on which templates are chosen. It loads nothing from elsewhere."""

PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>Templates</title>
<style>
  body { font: 16px/1.4 sans-serif; margin: 1.5rem; background: #fff; color: #222; }
  .row { display: flex; flex-wrap: wrap; gap: 6px; }
  .row button { padding: 0; border: 4px solid #ddd; background: none; cursor: pointer; }
  .row button[aria-pressed="true"] { border-color: #06c; }
  .row button.mirrored img { transform: scaleX(-1); }
  img { display: block; width: 128px; }
  #done { font-size: 1.1rem; padding: .5rem 1.5rem; margin-top: 1.5rem; }
</style>
<h1>One picture for each class</h1>
<p>Click the picture that shows the class best. Mirror turns it the other way round.</p>
<main></main>
<button id="done" disabled>Done</button>
<p id="told" role="status"></p>
<script>
"use strict";
const told = document.getElementById("told");
const done = document.getElementById("done");
let rows = [];

function show(row) {
  row.buttons.forEach((button, index) => {
    const picked = index === row.index;
    button.setAttribute("aria-pressed", String(picked));
    button.className = picked && row.mirrored ? "mirrored" : "";
  });
}

function add(row, place) {
  const section = document.createElement("section");
  const title = document.createElement("h2");
  const pictures = document.createElement("div");
  const label = document.createElement("label");
  const mirror = document.createElement("input");
  title.textContent = row.name;
  pictures.className = "row";
  mirror.type = "checkbox";
  mirror.checked = row.mirrored;
  mirror.addEventListener("change", () => { row.mirrored = mirror.checked; show(row); });
  label.append(mirror, " mirror");
  row.buttons = Array.from({ length: row.count }, (_, index) => {
    const button = document.createElement("button");
    const picture = document.createElement("img");
    picture.src = `/picture/${place}/${index}`;
    picture.alt = `${row.name} ${index}`;
    button.append(picture);
    button.addEventListener("click", () => { row.index = index; show(row); });
    pictures.append(button);
    return button;
  });
  section.append(title, pictures, label);
  document.querySelector("main").append(section);
  show(row);
}

done.addEventListener("click", async () => {
  done.disabled = true;
  const picks = rows.map((row) => [row.index, row.mirrored]);
  try {
    const answer = await fetch("/done", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ picks }),
    });
    const text = await answer.text();
    told.textContent = answer.ok ? "Saved. This page can be closed." : text;
    done.disabled = answer.ok;
  } catch (error) {
    told.textContent = "The command is no longer running.";
  }
});

fetch("/question.json").then((answer) => answer.json()).then((found) => {
  rows = found;
  rows.forEach(add);
  done.disabled = false;
});
</script>
</html>
"""
