// Uploads: a file that is chosen or dropped is sent in one request whose body is the file itself.
(() => {
  const status = (message) => {
    const line = document.querySelector("[data-upload-status]");
    if (line) line.textContent = message;
  };
  const send = (file) => {
    if (!file) return;
    const { limit, tooLarge } = document.querySelector("[data-upload]").dataset;
    if (file.size > Number(limit)) {
      status(`${file.name} ${tooLarge}`);
      return;
    }
    const request = new XMLHttpRequest();
    request.open("PUT", `/console/uploads?name=${encodeURIComponent(file.name)}`);
    request.setRequestHeader("Content-Type", "application/octet-stream");
    request.upload.onprogress = (event) => {
      if (event.lengthComputable) status(`${file.name}: ${Math.floor((100 * event.loaded) / event.total)} %`);
    };
    request.onload = () => {
      let answer = {};
      try {
        answer = JSON.parse(request.responseText);
      } catch {}
      if (request.status === 200) {
        status("");
        emitEvent("uploaded", answer);
      } else status(`${file.name}: ${typeof answer.detail === "string" ? answer.detail : request.status}`);
    };
    request.onerror = () => status(`${file.name}: the connection was lost`);
    request.send(file);
  };
  const isFile = (event) => [...(event.dataTransfer?.types || [])].includes("Files");
  document.addEventListener("change", (event) => {
    if (event.target.matches?.("input[data-upload]")) {
      send(event.target.files[0]);
      event.target.value = "";
    }
  });
  document.addEventListener("dragover", (event) => {
    if (!isFile(event)) return;
    event.preventDefault();
    document.querySelector("[data-drop]")?.classList.add("over");
  });
  document.addEventListener("dragleave", (event) => {
    if (!event.relatedTarget) document.querySelector("[data-drop]")?.classList.remove("over");
  });
  document.addEventListener("drop", (event) => {
    if (!isFile(event)) return;
    event.preventDefault();
    document.querySelector("[data-drop]")?.classList.remove("over");
    if (document.querySelector("[data-drop]")) send(event.dataTransfer.files[0]);
  });
})();

// What is behind a dialog is out of reach of the keyboard and of screen readers; the focus returns to where it was.
(() => {
  let last = null;
  const update = () => {
    const layout = document.querySelector(".q-layout");
    const inert = Boolean(document.querySelector('.q-dialog[aria-modal="true"]'));
    if (!layout || layout.inert === inert) return;
    layout.inert = inert;
    if (!inert && !layout.contains(document.activeElement)) last?.focus({ preventScroll: true });
  };
  document.addEventListener("focusin", (event) => {
    if (event.target.closest?.(".q-layout")) last = event.target.closest("button") || event.target;
  });
  new MutationObserver(update).observe(document.body, {
    attributes: true,
    attributeFilter: ["class"],
    childList: true,
  });
})();
