#pragma once
#include "toolkit/cudnn.h"
// cuDNN 9 dropped the recurrent interface that Jittor's RNN operators name (ccnet has none): "not supported" if called.
#if defined(__cplusplus) && CUDNN_MAJOR >= 9
#define CCNET_DROPPED(name)                \
    template <class... A>                  \
    inline cudnnStatus_t name(A...) {      \
        return CUDNN_STATUS_NOT_SUPPORTED; \
    }
CCNET_DROPPED(cudnnSetRNNDescriptor_v6)
CCNET_DROPPED(cudnnGetRNNParamsSize)
CCNET_DROPPED(cudnnGetRNNWorkspaceSize)
CCNET_DROPPED(cudnnGetRNNTrainingReserveSize)
CCNET_DROPPED(cudnnGetRNNLinLayerMatrixParams)
CCNET_DROPPED(cudnnGetRNNLinLayerBiasParams)
CCNET_DROPPED(cudnnRNNForwardTraining)
CCNET_DROPPED(cudnnRNNForwardInference)
CCNET_DROPPED(cudnnRNNBackwardData)
CCNET_DROPPED(cudnnRNNBackwardWeights)
#undef CCNET_DROPPED
#endif
