"use strict";

const data = JSON.parse(document.getElementById("data").textContent);

function colour(element, text, values, describe, paint, holds) {
  const letters = document.createDocumentFragment();
  Array.from(text).forEach((symbol, i, all) => {
    const letter = document.createElement("b");
    // A line's end may break the line, a paragraph's end does.
    letter.textContent = symbol !== "\n" ? symbol : all[i - 1] === "\n" ? "¶\n" : "¶\u200b";
    letter.style.background = paint(values[i]);
    letter.title = describe(values[i]);
    if (holds && holds[i]) letter.className = "holds";
    letters.append(letter);
  });
  element.replaceChildren(letters);
}

const high = (part) => `rgb(var(--high) / ${(0.8 * Math.min(part, 1)).toFixed(2)})`;
const low = (part) => `rgb(var(--low) / ${(0.8 * Math.min(part, 1)).toFixed(2)})`;

function showUnit(number) {
  const chosen = data.coloured[number];
  chosen.models.forEach((model, i) => {
    const card = document.getElementById(`unit-${i}`);
    card.querySelector(".name").textContent = model.unit;
    card.querySelector(".score").textContent = model.score;
    colour(card.querySelector(".coloured"), chosen.text, model.values,
      (value) => (value / 100).toFixed(2),
      (value) => (value >= 0 ? high(value / 100) : low(-value / 100)), chosen.holds);
  });
}

function showSurprise() {
  data.surprise.models.forEach((model, i) => {
    const element = document.querySelector(`#surprise-${i} .coloured`);
    colour(element, data.surprise.text, model.values,
      (bits) => `${bits} bits`, (bits) => high(bits / 8));
  });
}

function showSamples() {
  const moment = document.querySelector("input[name=moment]:checked").value;
  const temperature = document.querySelector("input[name=temperature]:checked").value;
  document.querySelectorAll("[data-moment]").forEach((element) => {
    const at = element.dataset;
    element.hidden = at.moment !== moment || (at.temperature ?? temperature) !== temperature;
  });
}

document.querySelectorAll("input[name=moment], input[name=temperature]").forEach((input) =>
  input.addEventListener("change", showSamples));
document.querySelectorAll("input[name=trait]").forEach((input) =>
  input.addEventListener("change", () => showUnit(Number(input.value))));
document.getElementById("theme").addEventListener("click", () => {
  const root = document.documentElement;
  const dark = root.dataset.theme
    ? root.dataset.theme === "dark"
    : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = dark ? "light" : "dark";
});

if (data.coloured.length) showUnit(0);
showSurprise();
