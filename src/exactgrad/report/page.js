
"use strict";

// A click on a heading sorts its table by that column; a second click turns the order. Cells without a value go last.
function sortTable(heading) {
  const table = heading.closest("table");
  const column = heading.cellIndex;
  const isNumber = heading.classList.contains("num");
  const turn = heading.getAttribute("aria-sort") === "ascending" ? -1 : 1;
  const key = (row) => {
    const cell = row.cells[column];
    return isNumber ? Number(cell.dataset.key ?? NaN) : cell.textContent;
  };
  const order = (a, b) => {
    const [p, q] = [key(a), key(b)];
    if (!isNumber) return turn * p.localeCompare(q, undefined, { numeric: true });
    if (Number.isNaN(p) || Number.isNaN(q)) return Number.isNaN(p) - Number.isNaN(q);
    return p === q ? 0 : turn * (p < q ? -1 : 1);
  };
  const body = table.tBodies[0];
  body.append(...[...body.rows].sort(order));
  for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
  heading.setAttribute("aria-sort", turn === 1 ? "ascending" : "descending");
}

for (const button of document.querySelectorAll("th button")) {
  button.addEventListener("click", () => sortTable(button.closest("th")));
}

// A click on a figure shows it large; ESC (which the dialog hears itself) or another click closes it.
function zoom(image) {
  const dialog = document.createElement("dialog");
  const large = document.createElement("img");
  large.src = image.src;
  large.alt = image.alt;
  dialog.setAttribute("aria-label", image.alt);
  dialog.append(large);
  dialog.addEventListener("click", () => dialog.close());
  dialog.addEventListener("close", () => dialog.remove());
  document.body.append(dialog);
  dialog.showModal();
}

for (const button of document.querySelectorAll("button.zoom")) {
  button.addEventListener("click", () => zoom(button.querySelector("img")));
}

// The clipboard is there only where the browser trusts the page's origin; the button shows only then.
for (const button of document.querySelectorAll("button.copy")) {
  if (!navigator.clipboard) continue;
  button.hidden = false;
  button.addEventListener("click", async () => {
    await navigator.clipboard.writeText(button.closest("section").querySelector("code").textContent);
    button.textContent = "Copied";
    setTimeout(() => { button.textContent = "Copy"; }, 1500);
  });
}
