/* What nvtx_tool.so of this folder has written down: "push NAME" and "pop", in order. */
#ifndef KPACK_TESTS_NVTX_TOOL_H
#define KPACK_TESTS_NVTX_TOOL_H

#ifdef __cplusplus
extern "C" {
#endif

unsigned nvtx_tool_copies(void); /* of NVTX that have attached */
unsigned nvtx_tool_count(void);
const char *nvtx_tool_line(unsigned index);
void nvtx_tool_reset(void);

#ifdef __cplusplus
}
#endif
#endif
