"use strict";
{
  const root = document.documentElement;
  const say = (text) => { document.getElementById("status").textContent = text; };
  const all = (selector, within = document) => [...within.querySelectorAll(selector)];

  // What lies compressed in the page: each study, and the library that draws its charts.
  const unpack = (packed) => {
    const bytes = Uint8Array.from(atob(packed.textContent), (c) => c.charCodeAt(0));
    return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"))).text();
  };
  let library;
  const draws = () => library ??= unpack(document.getElementById("bundle")).then((code) => {
    document.head.append(Object.assign(document.createElement("script"), { textContent: code }));
  });

  // Backbones that are shown: all, or those whose name holds one of the words.
  let words = [];
  const shown = (name) => !words.length || words.some((word) => name.toLowerCase().includes(word));
  const hide = (within) => { for (const e of all("[data-backbone]", within)) e.hidden = !shown(e.dataset.backbone); };

  // Charts. Their colours are the page's CSS variables, so light, dark and print need no second drawing.
  const resolve = (svg) => svg.replace(/var\((--[\w-]+)\)/g, (_, name) => getComputedStyle(root).getPropertyValue(name).trim());
  const only = (spec) => JSON.parse(JSON.stringify(spec), (key, v) => {
    return key === "data" && v.values ? { ...v, values: v.values.filter((row) => !row.backbone || shown(row.backbone)) } : v;
  });
  const MARKS = '[aria-roledescription="point"], [aria-roledescription="rect mark"]';
  let drawn = 0;
  const draw = async (figure, specs) => {
    if (figure.closest("details:not([open])")) return 0; // it has no width: it is drawn when it is opened
    await draws();
    const views = [];
    for (const place of all(".vega", figure)) {
      if (place.closest("[data-backbone][hidden]")) continue;
      const spec = only(specs[Number(place.dataset.index)]);
      const { view } = await vegaEmbed(place, spec, { renderer: "svg", actions: false, tooltip: { disableDefaultStyle: true } });
      views.push(view);
      place.querySelector(MARKS)?.setAttribute("tabindex", "0");
      place.closest(".multiple").querySelector(".save").onclick = async () => {
        const link = document.createElement("a");
        link.href = URL.createObjectURL(new Blob([resolve(await view.toSVG())], { type: "image/svg+xml" }));
        link.download = `${figure.dataset.chart.replace("/", "-")}-${Number(place.dataset.index) + 1}.svg`;
        link.click();
        URL.revokeObjectURL(link.href);
      };
    }
    const buttons = all("[data-focus]", figure);
    const focus = (name) => {
      for (const button of buttons) button.setAttribute("aria-pressed", String(button.dataset.focus === name));
      for (const view of views) view.signal("focus", name).runAsync();
    };
    for (const button of buttons) button.onclick = () => focus(button.getAttribute("aria-pressed") === "true" ? "" : button.dataset.focus);
    figure.onkeydown = (event) => { if (event.key === "Escape") focus(""); };
    return views.length;
  };

  // Exact values: of what is pointed at; by keyboard the arrow keys walk from mark to mark of a chart; a tap takes the nearest.
  const point = (mark, type) => {
    const box = mark.getBoundingClientRect();
    mark.dispatchEvent(new PointerEvent(type, { bubbles: true, clientX: box.x + box.width / 2, clientY: box.y + box.height / 2 }));
  };
  const to = (mark) => { mark.setAttribute("tabindex", "-1"); mark.focus({ preventScroll: true }); };
  const at = (target) => target instanceof Element && target.matches(MARKS) && target.closest(".vega");
  document.addEventListener("focusin", ({ target }) => { if (at(target)) { point(target, "pointerover"); point(target, "pointermove"); } });
  document.addEventListener("focusout", ({ target }) => { if (at(target)) document.getElementById("vg-tooltip-element")?.classList.remove("visible"); });
  document.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key], place = at(event.target);
    if (!step || !place) return;
    event.preventDefault();
    const marks = all(MARKS, place);
    to(marks[(marks.indexOf(event.target) + step + marks.length) % marks.length]);
  });
  document.addEventListener("click", ({ target, clientX, clientY }) => {
    const near = all(MARKS, target.closest(".vega") ?? document.createElement("i")).map((mark) => {
      const box = mark.getBoundingClientRect();
      return [Math.hypot(box.x + box.width / 2 - clientX, box.y + box.height / 2 - clientY), mark];
    }).sort(([a], [b]) => a - b)[0];
    if (near && near[0] < 40) to(near[1]);
  });

  // A study's section is built when it comes into view; the others follow while nothing else is to do, so that the whole page can be
  // searched and printed.
  const studies = all("section.study");
  const specs = new Map(), built = new Map();
  const fill = async (section) => {
    const { html, charts, style } = JSON.parse(await unpack(section.querySelector("script")));
    document.head.append(Object.assign(document.createElement("style"), { textContent: style }));
    const body = section.querySelector(".body");
    body.innerHTML = html;
    hide(body);
    hint(body);
    for (const figure of all("figure.chart", body)) {
      specs.set(figure, charts[Number(figure.dataset.number)]);
      figure.closest("details")?.addEventListener("toggle", () => draw(figure, specs.get(figure)));
      drawn += await draw(figure, specs.get(figure));
    }
  };
  const open = (section) => {
    if (!built.has(section)) {
      built.set(section, fill(section).catch((error) => {
        section.querySelector(".pending")?.replaceChildren(`This section could not be built: ${error.message}. A browser of 2023 or later is needed.`);
        throw error;
      }));
    }
    return built.get(section);
  };
  const near = new IntersectionObserver((entries) => {
    for (const entry of entries) if (entry.isIntersecting) { near.unobserve(entry.target); open(entry.target); }
  }, { rootMargin: "50% 0px" });
  const idle = () => new Promise((done) => (window.requestIdleCallback ?? setTimeout)(done));
  const whole = async () => {
    for (const section of studies) { await idle(); await open(section); }
    root.dataset.drawn = String(drawn);
  };

  // Tables that are wider than their place say so.
  const widths = new ResizeObserver((entries) => {
    requestAnimationFrame(() => {
      for (const { target } of entries) target.classList.toggle("scrolls", target.scrollWidth > target.clientWidth + 1);
    });
  });
  const hint = (within) => { for (const region of all(".region", within)) widths.observe(region); };
  hint(document);

  // Sort and filter.
  const filter = (id, apply) => {
    const input = document.getElementById(id);
    input?.addEventListener("input", () => apply(input.value.toLowerCase().split(/[\s,]+/).filter(Boolean)));
  };
  let waiting;
  filter("only-backbones", (asked) => {
    words = asked;
    hide(document);
    say(`Cards shown: ${all(".cards > :not([hidden])").length}.`);
    clearTimeout(waiting);
    waiting = setTimeout(async () => { for (const [figure, each] of specs) await draw(figure, each); }, 250);
  });
  filter("only-studies", (asked) => {
    for (const section of studies) {
      const title = section.querySelector("h2").textContent.toLowerCase();
      section.hidden = asked.length > 0 && !asked.some((word) => title.includes(word) || section.dataset.study.includes(word));
      document.querySelector(`.toc a[href="#${CSS.escape(section.id)}"]`).parentElement.hidden = section.hidden;
    }
  });
  const places = new Map(all("[data-sorted]").map((place) => [place, [...place.children]]));
  document.getElementById("sort")?.addEventListener("change", ({ target }) => {
    const by = target.value, low = target.selectedOptions[0].dataset.better === "low";
    const value = (e) => JSON.parse(e.dataset.values)[Number(by)];
    const rank = (e) => value(e) === null ? Infinity : low ? value(e) : -value(e);
    for (const [place, rows] of places) {
      const sorted = by === "" ? rows : by === "name" ? [...rows].sort((a, b) => a.dataset.name.localeCompare(b.dataset.name))
        : [...rows].sort((a, b) => (rank(a) > rank(b)) - (rank(a) < rank(b)));
      place.append(...sorted);
    }
    say(`Sorted: ${target.selectedOptions[0].textContent}.`);
  });
  for (const form of all("form.controls")) { form.hidden = false; form.addEventListener("submit", (event) => event.preventDefault()); }

  // The section in view, in the contents.
  const links = new Map(all(".toc a").map((link) => [link.hash.slice(1), link]));
  const seen = new Set();
  const watch = new IntersectionObserver((entries) => {
    for (const entry of entries) entry.isIntersecting ? seen.add(entry.target.id) : seen.delete(entry.target.id);
    const current = [...links.keys()].find((id) => seen.has(id));
    for (const [id, link] of links) id === current ? link.setAttribute("aria-current", "true") : link.removeAttribute("aria-current");
  }, { rootMargin: "-25% 0px -60% 0px" });
  for (const id of links.keys()) watch.observe(document.getElementById(id));

  document.getElementById("copy")?.addEventListener("click", async () => {
    const code = document.getElementById("command");
    try {
      await navigator.clipboard.writeText(code.textContent);
      say("The command is copied.");
    } catch { // a file:// page may not write to the clipboard: leave it selected for the keyboard
      getSelection().selectAllChildren(code);
      say("The command is selected.");
      return;
    }
    const button = document.getElementById("copy");
    button.textContent = "Copied";
    setTimeout(() => { button.textContent = "Copy"; }, 2000);
  });

  // Print everything, also what is folded, but charts that nobody has opened.
  let folded = [];
  addEventListener("beforeprint", () => {
    folded = all("details:not([open]):not(.grouped)");
    for (const element of folded) element.open = true;
  });
  addEventListener("afterprint", () => { for (const element of folded) element.open = false; });

  for (const section of studies) near.observe(section);
  whole();
}
