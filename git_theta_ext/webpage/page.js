"use strict";
(() => {
  const filter = document.querySelector("#filter");
  const found = document.querySelector("#found");
  const rows = [...document.querySelectorAll(".named tbody tr")];
  const cells = [...document.querySelectorAll("rect[role=gridcell]")];
  const nameOf = (cell) => cell.dataset.pattern ?? cell.textContent.slice(0, cell.textContent.lastIndexOf(": "));

  // A pattern with * must match the whole name; other text may be anywhere in a row.
  const matcher = (text) => {
    const parts = text.trim().toLowerCase().split(/\*+/).map((part) => part.replace(/[.+?^${}()|[\]\\]/g, "\\$&"));
    const expression = parts.length > 1 ? new RegExp(`^${parts.join(".*")}$`, "s") : new RegExp(parts[0], "s");
    return (name) => expression.test(name.toLowerCase());
  };

  const apply = () => {
    const matches = matcher(filter.value);
    let count = 0;
    for (const row of rows) {
      row.hidden = !matches((filter.value.includes("*") ? row.cells[0] : row).textContent);
      count += row.hidden ? 0 : 1;
    }
    let lit = 0;
    for (const cell of cells) {
      const dim = !matches(nameOf(cell)) && filter.value !== nameOf(cell);
      cell.classList.toggle("dim", dim);
      lit += dim ? 0 : 1;
    }
    const [shown, all, noun] = rows.length ? [count, rows.length, "rows"] : [lit, cells.length, "cells"];
    found.textContent = filter.value ? `${shown} of ${all} ${noun}` : `${all} ${all === 1 ? noun.slice(0, -1) : noun}`;
  };

  const select = (text) => {
    filter.value = text;
    apply();
  };

  filter.addEventListener("input", apply);
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape") select("");
    if (event.key === "/" && document.activeElement !== filter) {
      event.preventDefault();
      filter.focus();
    }
  });

  for (const grid of document.querySelectorAll("svg[role=grid]")) {
    const lines = [...grid.querySelectorAll("[role=row]")].map((row) => [...row.querySelectorAll("[role=gridcell]")]);
    const first = grid.querySelector("[role=gridcell]");
    if (first) first.setAttribute("tabindex", "0");
    const move = (cell) => {
      grid.querySelector("[tabindex='0']")?.setAttribute("tabindex", "-1");
      cell.setAttribute("tabindex", "0");
      cell.focus();
    };
    const besides = (cell, line, step) => {
      const x = Number(cell.getAttribute("x"));
      for (let next = line + step; next >= 0 && next < lines.length; next += step) {
        const near = lines[next].filter((other) => Number(other.getAttribute("x")) === x)[0];
        if (near) return near;
      }
      return cell;
    };
    grid.addEventListener("keydown", (event) => {
      const cell = event.target.closest("[role=gridcell]");
      if (!cell) return;
      const line = lines.findIndex((row) => row.includes(cell));
      const place = lines[line].indexOf(cell);
      const targets = {
        ArrowRight: () => lines[line][place + 1],
        ArrowLeft: () => lines[line][place - 1],
        ArrowDown: () => besides(cell, line, 1),
        ArrowUp: () => besides(cell, line, -1),
        Home: () => lines[line][0],
        End: () => lines[line].at(-1),
      };
      if (event.key in targets) {
        event.preventDefault();
        move(targets[event.key]() ?? cell);
      } else if (event.key === "Enter" || event.key === " ") {
        event.preventDefault();
        select(nameOf(cell));
      }
    });
    grid.addEventListener("click", (event) => {
      const cell = event.target.closest("[role=gridcell]");
      if (!cell) return;
      move(cell);
      select(nameOf(cell));
    });
  }

  const valueOf = (row, column) => {
    const text = row.cells[column].textContent.trim();
    if (/^(nan|inf|all new)/.test(text)) return Infinity;  // alarms are the largest
    // A bound such as ≥ 48 is above all ranks that are known, which are at most as high. A date is text.
    const number = /^(?:≥ )?([-+]?[\d.]+(?:e[-+]?\d+)?)(?: %)?$/.exec(text);
    return number ? Number(number[1]) : text;
  };
  const collator = new Intl.Collator("en", { numeric: true });  // layers.2 comes before layers.10
  const order = (a, b) => {
    if (typeof a === "number" && typeof b === "number") return a - b;
    if (typeof a === typeof b) return collator.compare(a, b);
    return typeof a === "number" ? 1 : -1;
  };
  for (const header of document.querySelectorAll("thead th")) {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...header.childNodes);
    header.append(button);
    button.addEventListener("click", () => {
      const down = header.getAttribute("aria-sort") !== "descending" && header.cellIndex > 0;
      const body = header.closest("table").tBodies[0];
      const sorted = [...body.rows].sort(
        (one, other) => order(valueOf(one, header.cellIndex), valueOf(other, header.cellIndex)) * (down ? -1 : 1)
      );
      for (const other of header.parentElement.cells) other.removeAttribute("aria-sort");
      header.setAttribute("aria-sort", down ? "descending" : "ascending");
      body.append(...sorted);
    });
  }

  document.querySelector(".filter").hidden = false;
  apply();
})();
