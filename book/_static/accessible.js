// A long equation scrolls inside its box: from the keyboard too, but only then is the
// box a stop of the Tab key. It changes with the window and with a solution that opens.
addEventListener("load", async () => {
  await window.MathJax?.startup?.promise;
  const observer = new ResizeObserver((entries) => {
    for (const { target: box } of entries) {
      if (box.scrollWidth > box.clientWidth) {
        box.tabIndex = 0;
        box.setAttribute("role", "group");
        box.setAttribute("aria-label", "Equation, scrolls sideways");
      } else {
        for (const name of ["tabindex", "role", "aria-label"]) box.removeAttribute(name);
      }
    }
  });
  document
    .querySelectorAll("div.math, div.math mjx-container")
    .forEach((box) => observer.observe(box));
});

// Paper is white: print in light colours, also from a page read in the dark.
{
  const page = document.documentElement;
  let theme;
  addEventListener("beforeprint", () => {
    theme = page.dataset.theme;
    page.dataset.theme = "light";
  });
  addEventListener("afterprint", () => (page.dataset.theme = theme));
}
