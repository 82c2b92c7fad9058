(async () => {
  const explorer = document.currentScript.closest(".fpbook-explorer");
  const image = explorer.querySelector("img");
  const text = explorer.querySelector(".fpbook-explorer-text");
  const sliders = [...explorer.querySelectorAll("input")];
  const packed = atob(explorer.querySelector("script").textContent);
  const stream = new Blob([Uint8Array.from(packed, (c) => c.charCodeAt(0))])
    .stream()
    .pipeThrough(new DecompressionStream("deflate"));
  const frames = await new Response(stream).json();
  const sources = frames.images.map((svg) =>
    URL.createObjectURL(new Blob([svg], { type: "image/svg+xml" })),
  );
  const update = () => {
    let frame = 0;
    for (const slider of sliders) {
      const value = JSON.parse(slider.dataset.values)[slider.value];
      frame = frame * (Number(slider.max) + 1) + Number(slider.value);
      slider.setAttribute("aria-valuetext", value);
      slider.nextElementSibling.value = value;
    }
    image.src = sources[frame];
    image.alt = text.textContent = frames.texts[frame];
  };
  sliders.forEach((slider) => slider.addEventListener("input", update));
  update();
})();
